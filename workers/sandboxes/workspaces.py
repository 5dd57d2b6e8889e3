"""Workspaces on this machine's disk: which there are, and how one is removed.

What lies in a workspace was written by commands that may have meant harm: links, folders nobody
may enter, trees deeper than Python's stack. Nothing outside the workspace is touched for any of
it. Not guaranteed: the end of a command that still writes; the next removal takes the rest.
"""

import asyncio
import contextlib
import os
import uuid
from pathlib import Path
from typing import Final

from dispatch import log
from dispatch.errors import Unavailable

_log = log.get(__name__)
_SERVER: Final = "The workspaces' disk"
_REMOVE_SECONDS: Final = 120.0
"""A larger workspace than can be removed in this time is removed in several passes."""


def list_ids(root: Path) -> list[uuid.UUID]:
    """Return the ids of the workspaces here; nothing else there is ours. Blocking.

    Raises: Unavailable, when this disk cannot be read.
    """
    try:
        entries = sorted(root.iterdir())
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise Unavailable(_SERVER, cause=str(problem)) from problem
    found = (_id(entry.name) for entry in entries if not entry.is_symlink())
    return [each for each in found if each is not None]


async def remove(root: Path, workspace_id: uuid.UUID) -> bool:
    """Remove a workspace; tell whether it is gone now. Again is harmless.

    Promise: links are removed, never followed (`rm` and `chmod -R` do not follow those they
    meet, and the folder itself is checked here).
    Raises: Unavailable, when this machine cannot start them.
    """
    workspace = root / str(workspace_id)
    await _run("rm", "-rf", "--", str(workspace))
    if await asyncio.to_thread(_is_folder, workspace):
        # A command may have locked its folders; what is ours we may open again.
        await _run("chmod", "-R", "u+rwX", "--", str(workspace))
        await _run("rm", "-rf", "--", str(workspace))
    is_gone = not await asyncio.to_thread(os.path.lexists, workspace)
    if not is_gone:
        _log.warning("workspace.not_removed", workspace_id=str(workspace_id))
    return is_gone


def _id(name: str) -> uuid.UUID | None:
    with contextlib.suppress(ValueError):
        parsed = uuid.UUID(name)
        if str(parsed) == name:
            return parsed
    return None


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


async def _run(*command: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as problem:
        raise Unavailable(_SERVER, cause=str(problem)) from problem
    try:
        async with asyncio.timeout(_REMOVE_SECONDS):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError) as early:
        process.kill()
        await process.wait()
        if isinstance(early, asyncio.CancelledError):
            raise
