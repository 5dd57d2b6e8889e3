"""What bubblewrap hides and refuses: each test tries."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
import structlog

from dispatch.config import Settings
from dispatch.errors import Unavailable
from tests.sandboxes.commands import processes_with, run, wait_until
from workers.sandboxes import Place, Sandbox, isolation
from workers.sandboxes.bubblewrap import Bubblewrap
from workers.sandboxes.launches import Bare
from workers.sandboxes.local import LocalProvider


@pytest_asyncio.fixture
async def sandbox(
    settings: Settings, place: Place, bubblewrap: Bubblewrap
) -> AsyncIterator[Sandbox]:
    provider = LocalProvider(settings)
    yield await provider.open(place)
    assert await provider.release(place.id)


@pytest.fixture
def no_choice_yet():
    for cached in (isolation._choose_once, isolation._warn_once):
        cached.cache_clear()
    yield
    for cached in (isolation._choose_once, isolation._warn_once):
        cached.cache_clear()


async def test_the_worker_environment_is_nowhere_in_proc(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "planted-4711")

    result = await run(
        sandbox, "cat /proc/*/environ | tr '\\0' '\\n'; echo; wc -c /proc/1/environ"
    )

    assert "planted" not in result.output
    assert result.output.endswith("0 /proc/1/environ\n")


async def test_other_workspaces_and_the_host_are_out_of_sight(
    sandbox: Sandbox, workspace: Path
) -> None:
    other = workspace.parent / "other"
    other.mkdir(parents=True)
    (other / "secret").write_text("planted-4711")

    result = await run(
        sandbox,
        f"cat {other}/secret ../other/secret; ls {Path.home()} /home /var /proc/1/root/work",
    )

    assert "planted" not in result.output
    assert result.exit_code != 0


async def test_a_link_out_of_the_workspace_leads_nowhere(
    sandbox: Sandbox, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("planted-4711")
    await run(sandbox, f"ln -s {tmp_path}/secret out")

    result = await run(sandbox, "cat out")

    assert result.exit_code == 1
    assert "planted" not in result.output


async def test_there_is_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = (
            "import socket\n"
            f"try: socket.create_connection(('127.0.0.1', {port}), 2); print('reached')\n"
            "except OSError as e: print('refused')"
        )
        python = await run(sandbox, f'/usr/bin/python3 -c "{connect}" || echo refused')

    assert python.output.splitlines()[-1] == "refused"
    interfaces = await run(sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1")
    assert set(interfaces.output.split()) <= {"lo"}


async def test_only_the_workspace_and_temporary_folders_can_be_written(
    sandbox: Sandbox,
) -> None:
    places = "/ /usr /usr/bin /etc /dev"
    result = await run(
        sandbox,
        f"for place in {places}; do (echo x > $place/planted) 2>/dev/null && echo $place; "
        "done; echo x > here && echo x > /tmp/there && echo x > /dev/shm/there && echo written",
    )

    assert result.output == "written\n"


async def test_no_file_of_the_kernel_can_be_written(sandbox: Sandbox) -> None:
    # Asks for the right only: the day this fails must not be the day it harms the machine.
    # Pressure files take a watch from anybody, and it ends with its watcher.
    result = await run(
        sandbox,
        "cd /proc && find . -path './[0-9]*' -prune -o -path ./pressure -prune "
        "-o -path ./self -prune -o -path ./thread-self -prune -o -writable "
        "-exec test -f {} \\; -print 2>/dev/null",
    )

    assert result.output == ""


async def test_temporary_folders_do_not_last(sandbox: Sandbox) -> None:
    await run(sandbox, "echo x > /tmp/there")

    result = await run(sandbox, "ls -A /tmp /dev/shm | grep there")

    assert result.exit_code == 1


async def test_processes_of_the_host_are_out_of_reach(sandbox: Sandbox) -> None:
    result = await run(sandbox, "ls /proc | grep -c '^[0-9]'; grep ^CapEff /proc/self/status")

    count, capabilities = result.output.splitlines()
    assert int(count) < 8
    assert int(capabilities.split()[1], 16) == 0


async def test_a_process_in_a_session_of_its_own_ends_too(
    sandbox: Sandbox, workspace: Path
) -> None:
    result = await run(
        sandbox,
        "setsid sh -c 'sleep 1; echo late > late' >/dev/null 2>&1 & sleep 0.1; echo done",
    )
    assert result.output == "done\n"

    # Its second passes while another command runs, so that time is not what saves the test.
    await run(sandbox, "sleep 1.5")

    assert not (workspace / "late").exists()


WORKER = """
import asyncio, sys, uuid
from dispatch.config import Settings
from dispatch.models import recipes
from workers.sandboxes import Place, limits
from workers.sandboxes.local import LocalProvider

async def show(piece):
    print(piece, end="", flush=True, file=sys.stderr)

async def main(root, seconds):
    settings = Settings(workspace_root=root)
    place = Place(id=uuid.uuid4(), limits=limits(settings, recipes.LOCAL))
    sandbox = await LocalProvider(settings).open(place)
    await sandbox.run_command(
        f"echo begun; (setsid sleep {seconds} &) ; sleep {seconds}",
        wall_seconds=60, max_output_bytes=99, on_output=show)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_command_ends_with_its_killed_worker(
    tmp_path: Path, bubblewrap: Bubblewrap
) -> None:
    marker = f"36.{os.getpid()}6"
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, str(tmp_path), marker),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    assert worker.stderr is not None
    assert await worker.stderr.readline() == b"begun\n"
    assert len(processes_with(marker)) > 1

    worker.kill()
    await worker.communicate()

    await wait_until(lambda: not processes_with(marker))


@pytest.mark.parametrize("is_demoted", [True, False])
async def test_nothing_begins_whose_worker_is_gone_already(
    tmp_path: Path, bubblewrap: Bubblewrap, place: Place, is_demoted: bool
) -> None:
    if bubblewrap.setpriv is None:
        pytest.skip("no setpriv on this machine")
    if not is_demoted:
        bubblewrap = msgspec.structs.replace(bubblewrap, demotion=None)
    (anybodys := tmp_path / "workspace").mkdir(mode=0o755)
    launch = bubblewrap.launch(anybodys, "echo began", wall_seconds=5, limits=place.limits)

    async def begin(parent: str) -> bytes:
        mine = str(os.getpid())
        process = await asyncio.create_subprocess_exec(
            *(parent if each == mine else each for each in launch.arguments),
            env=launch.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        return (await process.communicate())[0]

    assert await begin(str(os.getpid())) == b"began\n"
    assert await begin("1") == b""


def test_the_choice_is_made_once(
    no_choice_yet: None, settings: Settings, bubblewrap: Bubblewrap
) -> None:
    assert isolation.choose(settings) is isolation.choose(settings)


@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho no user namespaces >&2\nexit 1\n"])
def test_without_bubblewrap_commands_are_refused_unless_somebody_allows_them(
    script: str | None,
    no_choice_yet: None,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if script is not None:
        (tmp_path / "bwrap").write_text(script)
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    allowed = settings.model_copy(update={"allow_unsandboxed": True})

    with structlog.testing.capture_logs() as events:
        with pytest.raises(Unavailable) as refused:
            isolation.choose(settings)
        chosen = (isolation.choose(allowed), isolation.choose(allowed))

    assert "ARBE_ALLOW_UNSANDBOXED" in refused.value.next_step
    assert chosen == (Bare(), Bare())
    assert [event["event"] for event in events] == ["sandbox.not_isolated"]
    assert events[0]["cause"] == ("no user namespaces" if script else "bwrap is not installed")
