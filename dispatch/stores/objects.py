"""Objects outside Postgres: named bytes under one URL, by fsspec (file://, s3://, gcs:// …).

fsspec is an optional extra (`arbe-dispatch[archive]`) and ships no types: what comes from it is
`Any` here and nowhere else. Its calls block, so they are made off the loop. An object is
written once, under a name of its own, and never changed.
"""

import asyncio
import contextlib
import importlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypeVar

from dispatch.errors import Invalid, Unavailable

Answer = TypeVar("Answer")
_FOLDERS: Final = 3
"""Which a write may have made: the thread's, its shard's, and that of the URL."""
_SERVER: Final = "The object store of ARBE_ARCHIVE_URL"
_SECONDS: Final = 60.0
"""One call; what it still does after is harmless, for an object is written once."""


async def put(url: str, name: str, data: bytes) -> str:
    """Write an object; return its own URL.

    Promise: it lasts a power loss, on this machine's disk too.
    Raises: Unavailable, Invalid (no such store, fsspec missing).
    """
    return await _do(url, lambda store, root: _put(store, f"{root}/{name}", data))


async def get(place: str) -> bytes | None:
    """Return an object by its own URL, None if it is not there. Raises: as `put`."""

    def read(store: Any, path: str) -> bytes | None:
        try:
            found: bytes = store.cat_file(path)
        except FileNotFoundError:
            return None
        return found

    return await _do(place, read)


async def delete(place: str) -> None:
    """Remove an object by its own URL. Repeatable. Raises: Unavailable, Invalid."""

    def remove(store: Any, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            store.rm_file(path)

    await _do(place, remove)


async def list_names(url: str, folder: str) -> Collection[str]:
    """Return the names directly in a folder; none, if it is not there.

    Raises: Unavailable, Invalid.
    """

    def look(store: Any, root: str) -> list[str]:
        try:
            found: list[str] = store.ls(f"{root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    return await _do(url, look)


async def delete_folder(url: str, folder: str) -> None:
    """Remove a folder with all that is in it. Repeatable. Raises: Unavailable, Invalid."""

    def remove(store: Any, root: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            store.rm(f"{root}/{folder}", recursive=True)

    await _do(url, remove)


async def _do(url: str, act: Callable[[Any, str], Answer]) -> Answer:
    try:
        async with asyncio.timeout(_SECONDS):
            return await asyncio.to_thread(lambda: act(*_open(url)))
    except Invalid:
        raise
    except Exception as error:
        raise Unavailable(_SERVER, cause=type(error).__name__) from error


def _open(url: str) -> tuple[Any, str]:
    try:
        core: Any = importlib.import_module("fsspec.core")
        store, root = core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise Invalid(
            f"ARBE_ARCHIVE_URL cannot be used: {error}.",
            next_step="Install arbe-dispatch[archive] and the driver of the URL's scheme "
            "(s3fs, gcsfs …), or leave it empty: then Postgres holds the archive.",
        ) from error
    return store, root.rstrip("/")


def _put(store: Any, path: str, data: bytes) -> str:
    if "file" in store.protocol:
        _put_on_disk(Path(path), data)
    else:
        store.pipe_file(path, data)
    own: str = store.unstrip_protocol(path)
    return own


def _put_on_disk(file: Path, data: bytes) -> None:
    """Write a file that is there after a power loss: it, and its name in its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    for folder in list(file.parents)[:_FOLDERS]:
        _sync_folder(folder)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
