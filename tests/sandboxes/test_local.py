"""What the local provider alone promises, with bubblewrap and without."""

import stat
from pathlib import Path

import pytest

from dispatch.config import Settings
from dispatch.errors import Unavailable
from tests.sandboxes.commands import run
from workers.sandboxes import Place, Provider, Sandbox

pytestmark = pytest.mark.parametrize("provider", ["bubblewrap", "bare"], indirect=True)


async def test_the_environment_of_a_command_is_its_own(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "planted-4711")

    result = await run(sandbox, "env")

    names = {line.partition("=")[0] for line in result.output.splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}
    assert "planted" not in result.output


async def test_limits_hold_inside(sandbox: Sandbox) -> None:
    result = await run(sandbox, "ulimit -c; ulimit -n; ulimit -f; ulimit -t")

    core, files, blocks, cpu_seconds = result.output.split()
    assert (core, files, blocks) == ("0", "1024", str(1024**3 // 512))
    assert int(cpu_seconds) > 20


async def test_the_workspace_is_a_private_folder_named_by_its_id(
    sandbox: Sandbox, workspace: Path
) -> None:
    await run(sandbox, "echo kept > note")

    assert (workspace / "note").read_text() == "kept\n"
    assert mode_of(workspace) == 0o700


async def test_a_workspace_that_cannot_be_made_is_unavailable(
    provider: Provider, settings: Settings, place: Place
) -> None:
    make_a_file_of(Path(settings.workspace_root))

    with pytest.raises(Unavailable):
        await provider.open(place)


def make_a_file_of(folder: Path) -> None:
    folder.touch()


def mode_of(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)
