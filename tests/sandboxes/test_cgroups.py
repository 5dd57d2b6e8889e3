"""Where cgroups are looked for, what is written there. A plain folder stands for the kernel's:
the bounds themselves are the kernel's promise, and few machines let a test have them."""

import os
from pathlib import Path

import msgspec
import pytest
import structlog

from dispatch.config import Settings
from tests.sandboxes.commands import run
from workers.sandboxes import Limits, Place, cgroups
from workers.sandboxes.bubblewrap import Bubblewrap
from workers.sandboxes.cgroups import Cgroups
from workers.sandboxes.local import LocalProvider, LocalSandbox


def delegated(folder: Path, controllers: str = "cpu memory pids") -> Path:
    folder.mkdir(parents=True)
    (folder / "cgroup.subtree_control").write_text(controllers)
    (folder / "cgroup.procs").touch()
    return folder


def small() -> Limits:
    return Limits(memory_bytes=7, processes=5, file_bytes=1, temporary_bytes=1, cpus=1)


def test_the_bounds_are_written_before_anything_runs(tmp_path: Path) -> None:
    cgroups.make(tmp_path / "c", small())

    assert (tmp_path / "c" / "memory.max").read_text() == "7"
    assert (tmp_path / "c" / "memory.swap.max").read_text() == "0"
    assert int((tmp_path / "c" / "pids.max").read_text()) >= 5


@pytest.mark.parametrize("controllers", ["", "memory", "cpu pids"])
def test_a_folder_without_both_controllers_is_not_taken(
    tmp_path: Path, controllers: str
) -> None:
    folder = delegated(tmp_path / "own", controllers)

    with structlog.testing.capture_logs() as events:
        assert cgroups.find(str(folder)) is None
    assert [event["event"] for event in events] == ["sandbox.no_cgroups"]


@pytest.mark.parametrize("place", ["own", "parent", "given"])
def test_cgroups_are_made_where_somebody_let_us(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = delegated(tmp_path / "arbe.service")
    (folder / "worker").mkdir()
    own = "/arbe.service" if place == "own" else "/arbe.service/worker"
    (tmp_path / "cgroup").write_text(f"4:memory:/elsewhere\n0::{own}\n")
    (tmp_path / "mounts").write_text(f"41 31 0:38 / {tmp_path} rw shared:9 - cgroup2 c rw\n")
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "_MOUNTS", tmp_path / "mounts")

    assert cgroups.find(str(folder) if place == "given" else "") == Cgroups(folder)


def test_what_a_dead_worker_left_is_removed(tmp_path: Path) -> None:
    folder = delegated(tmp_path / "own")
    left, ours = folder / "arbe-command-99999999-1", folder / f"arbe-command-{os.getpid()}-1"
    left.mkdir()
    ours.mkdir()

    assert cgroups.find(str(folder)) is not None

    assert not left.exists()
    assert ours.exists()


async def test_a_command_enters_its_cgroup_before_bubblewrap_and_leaves_none(
    settings: Settings,
    place: Place,
    bubblewrap: Bubblewrap,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = delegated(tmp_path / "own")
    entered: list[str] = []

    def remove(cgroup: Path) -> None:
        entered.append((cgroup / "cgroup.procs").read_text())

    monkeypatch.setattr(cgroups, "remove", remove)
    await LocalProvider(settings).open(place)
    apart = msgspec.structs.replace(bubblewrap, cgroups=Cgroups(folder))
    workspace = Path(settings.workspace_root) / str(place.id)
    sandbox = LocalSandbox(workspace, apart, place.limits)

    result = await run(sandbox, "ulimit -v; cat /proc/1/environ | wc -c; echo ran")

    assert result.output == "unlimited\n0\nran\n"
    assert [bool(int(each)) for each in entered] == [True]
