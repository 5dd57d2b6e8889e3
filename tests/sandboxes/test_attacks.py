"""Commands that mean harm, each inside bubblewrap with small limits of its own.

Nothing here runs outside the sandbox, and everything has a wall clock: the day a limit fails
must not be the day the machine does.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from dispatch.config import Settings
from dispatch.errors import SandboxDied, Unavailable
from dispatch.models.recipes import Recipe
from tests.sandboxes.commands import processes_with, run, wait_until
from tests.sandboxes.conftest import a_place
from workers.sandboxes import Place, Sandbox
from workers.sandboxes.bubblewrap import Bubblewrap
from workers.sandboxes.local import LocalProvider

MiB = 1024**2
SMALL = Recipe(processes=24, memory_bytes=256 * MiB, file_bytes=MiB, temporary_bytes=2 * MiB)
PYTHON = "/usr/bin/python3"
needs_python = pytest.mark.skipif(not Path(PYTHON).exists(), reason="no system Python")


@pytest.fixture
def place(settings: Settings) -> Place:
    return a_place(settings, SMALL)


@pytest_asyncio.fixture
async def sandbox(
    settings: Settings, place: Place, bubblewrap: Bubblewrap
) -> AsyncIterator[Sandbox]:
    provider = LocalProvider(settings)
    yield await provider.open(place)
    assert await provider.release(place.id)


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        "/proc/1/environ",
        "/proc/self/environ",
        "/proc/$PPID/environ",
        "/proc/{worker}/environ",
        "/proc/1/root/proc/{worker}/environ",
        "/proc/self/root/../../proc/{worker}/environ",
    ],
)
async def test_no_way_leads_to_the_workers_environment(
    sandbox: Sandbox, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "planted-4711")

    result = await run(sandbox, f"cat {way.format(worker=os.getpid())}")

    assert "planted" not in result.output
    assert "DATABASE_URL" not in result.output


@pytest.mark.parametrize(
    "file",
    [
        "/etc/shadow",
        "/etc/ssh",
        "/root",
        "/home",
        "/var",
        "/run",
        "/sys",
        "/proc/1/root/etc/shadow",
        "/proc/1/cwd/../etc/shadow",
        str(Path.home()),
        str(Path(__file__).parents[2] / "README.md"),
        sys.prefix + "/bin",
    ],
)
async def test_no_file_of_the_host_is_there(sandbox: Sandbox, file: str) -> None:
    if file.startswith(("/usr/", "/bin/")):
        pytest.skip("a program of the system, which is shown")
    result = await run(sandbox, f"ls -d {file} && cat {file}")

    assert result.exit_code != 0


async def test_other_workspaces_cannot_be_reached(
    sandbox: Sandbox, settings: Settings, place: Place
) -> None:
    provider = LocalProvider(settings)
    other = a_place(settings)
    await run(await provider.open(other), "echo planted-4711 > secret")
    root = Path(settings.workspace_root)

    for way in (
        f"{root}/{other.id}",
        f"../{other.id}",
        f"/proc/self/cwd/../{other.id}",
        "/mnt",
    ):
        assert "planted" not in (await run(sandbox, f"cat {way}/secret")).output


async def test_links_in_the_workspace_lead_the_worker_nowhere(
    sandbox: Sandbox, settings: Settings, place: Place, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("stays")
    await run(sandbox, f"ln -s {tmp_path} out; ln -s / all; ln -s {tmp_path}/precious p")
    provider = LocalProvider(settings)

    again = await provider.open(place)
    assert (await run(again, "cat out/precious p all/etc/shadow")).exit_code != 0
    assert await provider.release(place.id)

    assert (tmp_path / "precious").read_text() == "stays"


async def test_a_workspace_replaced_by_a_link_is_refused(
    settings: Settings, place: Place, workspace: Path, tmp_path: Path, bubblewrap: Bubblewrap
) -> None:
    provider = LocalProvider(settings)
    sandbox = await provider.open(place)
    replace(workspace, tmp_path / "elsewhere")

    with pytest.raises(SandboxDied):
        await run(sandbox, "echo x > planted")
    with pytest.raises(Unavailable):
        await provider.open(place)
    assert await provider.find(place) is None
    assert list((tmp_path / "elsewhere").iterdir()) == []


def replace(workspace: Path, target: Path) -> None:
    workspace.rmdir()
    target.mkdir()
    workspace.symlink_to(target)


# --- the network -----------------------------------------------------------------------------


def connect(*targets: tuple[str, str, Sequence[object] | str]) -> str:
    """A command that prints the name of each target it reaches."""
    return (
        f"{PYTHON} - <<'END'\nimport socket\n"
        f"for name, family, address in {targets!r}:\n"
        "    s = socket.socket(getattr(socket, family)); s.settimeout(2)\n"
        "    try: s.connect(address); print(name)\n"
        "    except OSError: pass\n"
        "END"
    )


@needs_python
async def test_no_socket_of_the_host_can_be_reached(sandbox: Sandbox, tmp_path: Path) -> None:
    abstract = f"\0arbe-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as loopback,
        socket.socket(socket.AF_UNIX) as hidden,
        socket.socket(socket.AF_UNIX) as named,
    ):
        hidden.bind(abstract)
        hidden.listen()
        named.bind(str(tmp_path / "socket"))
        named.listen()
        targets = (
            ("loopback", "AF_INET", ("127.0.0.1", loopback.getsockname()[1])),
            ("outside", "AF_INET", ("192.0.2.1", 80)),
            ("dns", "AF_INET", ("1.1.1.1", 53)),
            ("abstract", "AF_UNIX", abstract),
            ("named", "AF_UNIX", str(tmp_path / "socket")),
        )
        script = connect(*targets)
        outside = await asyncio.to_thread(reachable, loopback.getsockname()[1])
        result = await run(sandbox, script)

    assert outside
    assert (result.exit_code, result.output) == (0, "")


def reachable(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 2):
        return True


@needs_python
async def test_names_are_not_resolved(sandbox: Sandbox) -> None:
    result = await run(
        sandbox, f"timeout 5 {PYTHON} -c 'import socket; socket.gethostbyname(\"example.org\")'"
    )

    assert result.exit_code != 0


@needs_python
async def test_an_environment_may_allow_the_network(
    settings: Settings, bubblewrap: Bubblewrap
) -> None:
    provider = LocalProvider(settings)
    place = a_place(settings, Recipe(network=True))
    with socket.create_server(("127.0.0.1", 0)) as loopback:
        result = await run(
            await provider.open(place),
            connect(("loopback", "AF_INET", ("127.0.0.1", loopback.getsockname()[1]))),
        )

    assert result.output == "loopback\n"


# --- exhausting ------------------------------------------------------------------------------


async def test_a_fork_bomb_stays_small_and_ends(sandbox: Sandbox) -> None:
    # Should the limit not hold, the loop itself stops at 200, and the wall clock ends all.
    result = await run(
        sandbox,
        "i=0; while [ $i -lt 200 ]; do sleep 47.11 & i=$((i+1)); done; echo all started",
        wall_seconds=10,
    )

    assert "all started" not in result.output
    assert "fork" in result.output.lower()
    await wait_until(lambda: not processes_with("47.11"))


async def test_one_sandboxs_fork_bomb_takes_nothing_from_another(
    sandbox: Sandbox, settings: Settings
) -> None:
    bomb = asyncio.ensure_future(
        run(
            sandbox,
            "i=0; while [ $i -lt 20 ]; do sleep 47.12 & i=$((i+1)); done; echo up; sleep 2",
            wall_seconds=10,
        )
    )
    await wait_until(lambda: len(processes_with("47.12")) > 15)
    provider = LocalProvider(settings)

    other = await run(
        await provider.open(a_place(settings, SMALL)),
        "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1 & done; wait; echo fine",
    )

    assert other.output == "fine\n"
    assert "up" in (await bomb).output


@needs_python
async def test_a_memory_hog_is_stopped(sandbox: Sandbox) -> None:
    result = await run(sandbox, f"{PYTHON} -c 'x = bytearray(600_000_000); print(len(x))'")

    assert result.exit_code != 0
    assert "600000000" not in result.output


async def test_a_file_and_temporary_folders_stay_small(
    sandbox: Sandbox, workspace: Path
) -> None:
    result = await run(
        sandbox,
        "head -c 9000000 /dev/zero > big; head -c 900000 /dev/zero > /tmp/1; "
        "head -c 900000 /dev/zero > /tmp/2; head -c 900000 /dev/zero > /tmp/3; "
        "head -c 900000 /dev/zero > /dev/shm/1 && df -k /tmp /dev/shm | tail -n 2",
    )

    assert (workspace / "big").stat().st_size <= MiB
    assert "No space left" in result.output
    sizes = [line.split()[1] for line in result.output.splitlines()[-2:]]
    assert sizes == ["2048", "2048"]


# --- outliving -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        "nohup sleep {marker} >/dev/null 2>&1 &",
        "setsid sleep {marker} >/dev/null 2>&1 &",
        "(setsid sh -c '(sleep {marker} &) &' >/dev/null 2>&1 &)",
        "setsid nohup sh -c 'trap \"\" HUP TERM INT; sleep {marker}' >/dev/null 2>&1 &",
    ],
)
async def test_nothing_outlives_its_command(sandbox: Sandbox, way: str) -> None:
    marker = f"39.{os.getpid()}1"

    result = await run(sandbox, f"{way.format(marker=marker)}\nsleep 0.2; echo done")

    assert result.output == "done\n"
    await wait_until(lambda: not processes_with(marker), within_seconds=5)


# --- growing ---------------------------------------------------------------------------------


@needs_python
async def test_no_privilege_can_be_had(sandbox: Sandbox) -> None:
    result = await run(
        sandbox,
        "unshare -U true && echo namespace; unshare -r id -u && echo root; "
        "mount -t tmpfs none /workspace && echo mounted; "
        "grep -E '^(CapEff|CapPrm|NoNewPrivs)' /proc/self/status",
    )

    lines = result.output.splitlines()
    assert not {"namespace", "root", "mounted"} & set(lines)
    assert {"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"} <= set(lines)
    assert "NoNewPrivs:\t1" in lines


async def test_the_limits_cannot_be_raised(sandbox: Sandbox) -> None:
    result = await run(sandbox, "ulimit -f unlimited || ulimit -v unlimited || echo refused")

    assert result.output.splitlines()[-1] == "refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's commands are demoted")
async def test_a_root_workers_command_is_not_root_to_the_kernel(
    sandbox: Sandbox, workspace: Path, settings: Settings
) -> None:
    await run(sandbox, "echo x > mine")

    owners = {each.stat().st_uid for each in (workspace / "mine", workspace)}
    assert owners == {settings.sandbox_uid}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's commands are demoted")
async def test_a_workspace_of_roots_is_given_over(
    settings: Settings, place: Place, workspace: Path, tmp_path: Path, bubblewrap: Bubblewrap
) -> None:
    (workspace / "deep").mkdir(parents=True)
    (workspace / "deep" / "old").write_text("old")
    (tmp_path / "outside").touch()
    (workspace / "link").symlink_to(tmp_path / "outside")

    sandbox = await LocalProvider(settings).open(place)

    assert (await run(sandbox, "echo new >> deep/old; cat deep/old")).output == "oldnew\n"
    assert (tmp_path / "outside").stat().st_uid == 0
