"""Workspaces go as a whole, whatever commands left in them, and nothing else goes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispatch import ids
from dispatch.ids import ThreadId
from workers.sandboxes import workspaces


def a_thread() -> ThreadId:
    return ThreadId(ids.uuid7())


def test_only_folders_named_like_threads_are_workspaces(tmp_path: Path) -> None:
    thread_id, linked = a_thread(), a_thread()
    (tmp_path / str(thread_id)).mkdir()
    (tmp_path / str(linked)).symlink_to(tmp_path)
    for other in ("precious", str(a_thread()).upper(), f"{a_thread()}x", a_thread().hex):
        (tmp_path / other).mkdir()
    assert workspaces.list_ids(tmp_path) == [thread_id]
    assert workspaces.list_ids(tmp_path / "nowhere") == []


async def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    thread_id, root = a_thread(), tmp_path / "root"
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "precious").write_text("stays")
    workspace = root / str(thread_id)
    (workspace / "deep").mkdir(parents=True)
    (workspace / "deep" / "link").symlink_to(outside)
    (workspace / "locked").mkdir()
    (workspace / "locked" / "link").symlink_to(outside)
    (workspace / "locked").chmod(0)
    assert await workspaces.remove(root, thread_id)
    assert not workspace.exists()
    assert (outside / "precious").read_text() == "stays"
    assert outside.stat().st_mode & 0o777 == 0o750
    assert await workspaces.remove(root, thread_id)


async def test_a_workspace_that_is_a_link_is_removed_as_a_link(tmp_path: Path) -> None:
    thread_id = a_thread()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tmp_path / str(thread_id)).symlink_to(outside)
    assert await workspaces.remove(tmp_path, thread_id)
    assert (outside / "precious").exists()
    assert not (tmp_path / str(thread_id)).is_symlink()


async def test_a_tree_deeper_than_any_stack_is_removed(tmp_path: Path) -> None:
    thread_id = a_thread()
    workspace = tmp_path / str(thread_id)
    workspace.mkdir()
    dig = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')"
    command = [sys.executable, "-c", dig]
    await asyncio.to_thread(subprocess.run, command, cwd=workspace, check=True)
    assert await workspaces.remove(tmp_path, thread_id)
    assert not workspace.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root enters every folder")
async def test_locked_folders_are_opened_first(tmp_path: Path) -> None:
    thread_id = a_thread()
    locked = tmp_path / str(thread_id) / "a" / "b"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    locked.chmod(0)
    locked.parent.chmod(0o500)
    assert await workspaces.remove(tmp_path, thread_id)
