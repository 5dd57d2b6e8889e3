"""One `arbe up` per folder: two would start two Postgres on the same data.

The lock is the kernel's: it is gone with the process that held it, however that ended.
"""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from dispatch import errors


@contextlib.contextmanager
def held(folder: Path) -> Generator[None]:
    """Hold the folder for the length of the block. Raises: Conflict (`already_running`)."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            file.seek(0)
            holder = file.read().strip()
            raise errors.Conflict(
                "already_running",
                f"`arbe up` already runs in {folder} (process {holder or 'unknown'}).",
                next_step="Use that one, or stop it with Ctrl-C first.",
            ) from taken
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
