"""Whose a process or a folder is, and the sweep of those whose worker is gone.

A worker that dies takes its pi with it (`launcher`), unless it dies in between or pi's machine
has no such signal; its folder always stays. Each bears its worker's pid, start time and pid
namespace, so that no other worker's is touched, in this container or beside it.
Not guaranteed: anything where there is no /proc; there pi ends at the end of its input.
"""

import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

PREFIX: Final = "arbe-pi-"
RUN: Final = "ARBE_RUN"
OWNER: Final = "ARBE_OWNER"
_PROC: Final = Path("/proc")
_FOLDER: Final = re.compile(rf"{PREFIX}(\d+\.\d+\.\d+)-.+")
_START_TIME: Final = 18
"""Field 22 of /proc/<pid>/stat, counted from the fourth: the second may hold spaces."""


def marks(run_id: str) -> dict[str, str]:
    """Return the variables that say whose a process is; its children inherit them."""
    return {RUN: run_id, OWNER: _this_worker(os.getpid())}


def folder_name(run_id: str) -> str:
    """Return the beginning of the name of a run's folder."""
    return f"{PREFIX}{_this_worker(os.getpid())}-{run_id[:12]}"


def kill_run(run_id: str) -> int:
    """Kill what still runs with the mark of a run of this worker; return how many. Blocking."""
    wanted = marks(run_id)
    return _kill(pid for pid, found in _marked() if found == wanted)


def sweep() -> int:
    """Kill and delete what workers left behind that are gone; return how many. Blocking.

    Called twice, the second finds nothing. Safe beside living workers.
    """
    killed = _kill(pid for pid, found in _marked() if _is_gone(found[OWNER]))
    removed = 0
    for folder in _folders():
        named = _FOLDER.fullmatch(folder.name)
        if named is not None and _is_gone(named[1]) and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return killed + removed


def places() -> list[Path]:
    """Return where folders are made: the second when the first's path is too long."""
    return [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108 - mkdtemp keeps others out


def _folders() -> list[Path]:
    return sorted({folder for place in places() for folder in place.glob(f"{PREFIX}*")})


def _kill(pids: Iterator[int]) -> int:
    count = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            count += 1
    return count


def _marked() -> Iterator[tuple[int, dict[str, str]]]:
    for entry in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            raw = (entry / "environ").read_bytes()
            if f"{OWNER}=".encode() in raw:
                yield int(entry.name), _read_marks(raw)


def _read_marks(raw: bytes) -> dict[str, str]:
    pairs = (each.partition("=") for each in raw.decode("utf-8", errors="replace").split("\0"))
    found = {name: value for name, _, value in pairs if name in {RUN, OWNER}}
    return {RUN: "", OWNER: "", **found}


def _is_gone(owner: str) -> bool:
    """Tell whether the worker of that mark has died; one of another namespace never has."""
    namespace, _, rest = owner.partition(".")
    pid, _, started = rest.partition(".")
    if namespace != _namespace() or not pid.isdigit() or not _PROC.is_dir():
        return False
    return _started(int(pid)) != started


@lru_cache(maxsize=1)
def _this_worker(pid: int) -> str:
    """Args: pid: this process's; a forked child is another worker."""
    return f"{_namespace()}.{pid}.{_started(pid) or 0}"


def _namespace() -> str:
    try:
        return str((_PROC / "self" / "ns" / "pid").stat().st_ino)
    except OSError:
        return "0"


def _started(pid: int) -> str | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    # A zombie has died; only nobody has asked for its ending yet.
    return None if state == "Z" else fields[_START_TIME]
