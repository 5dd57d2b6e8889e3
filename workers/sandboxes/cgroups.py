"""Cgroups (v2): a bound on what all processes of one command use together.

Only where somebody gave the worker a folder for it, or enabled `memory` and `pids` below the
one it is in; nothing here enables them. Not guaranteed: that an empty cgroup of a killed worker
goes at once; the next worker process removes it.
"""

import contextlib
import itertools
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from dispatch import log
from workers.sandboxes import Limits

_log = log.get(__name__)
_MOUNTS: Final = Path("/proc/self/mountinfo")
_OWN: Final = Path("/proc/self/cgroup")
_PREFIX: Final = "arbe-command"
_SPARE_PROCESSES: Final = 4
"""bubblewrap's own, and the shell that sets limits."""
_REMOVE_TRIES: Final = 50
_REMOVE_SECONDS: Final = 0.02
"""A killed process may take a moment to leave its cgroup."""
_ENTER: Final = 'echo $$ > "$0/cgroup.procs" && unset PWD && exec "$@"'
_numbers = itertools.count()


class Cgroups(msgspec.Struct, frozen=True):
    """Makes cgroups below one folder."""

    folder: Path

    def name(self) -> Path:
        """Return a cgroup nobody else has; it is not made yet."""
        return self.folder / f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"


def make(cgroup: Path, limits: Limits) -> None:
    """Make a cgroup with its bounds. Blocking. Raises: OSError."""
    cgroup.mkdir()
    (cgroup / "memory.max").write_text(str(limits.memory_bytes))
    (cgroup / "pids.max").write_text(str(limits.processes + _SPARE_PROCESSES))
    with contextlib.suppress(FileNotFoundError, PermissionError):  # a machine without swap
        (cgroup / "memory.swap.max").write_text("0")


def remove(cgroup: Path) -> None:
    """End what is left in a cgroup and remove it. Blocking, for a bounded time."""
    with contextlib.suppress(OSError):  # before Linux 5.14 there is no such file
        (cgroup / "cgroup.kill").write_text("1")
    for _ in range(_REMOVE_TRIES):
        try:
            cgroup.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(_REMOVE_SECONDS)
        else:
            return
    _log.warning("sandbox.cgroup_left", cgroup=str(cgroup))


def enter(cgroup: Path) -> tuple[str, ...]:
    """Return what stands before a command line to make it run in the cgroup."""
    return ("/bin/sh", "-c", _ENTER, str(cgroup))


def find(given: str) -> Cgroups | None:
    """Return where this worker may make cgroups, None if nowhere. Blocking.

    Args: given: `sandbox_cgroup`; empty: the worker's own cgroup, or the one above it.
    """
    own = None if given else _own()
    for folder in [Path(given)] if given else [own, own.parent] if own else []:
        if _is_usable(folder):
            _remove_empty(folder)
            return Cgroups(folder)
    if given:
        _log.warning("sandbox.no_cgroups", folder=given)
    return None


def _own() -> Path | None:
    """Return the folder of the worker's own cgroup."""
    mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    points = [line[4] for line in mounts if "cgroup2" in line[line.index("-") :]]
    names = [
        line.removeprefix("0::") for line in _OWN.read_text().splitlines() if line[:3] == "0::"
    ]
    return Path(points[0] + names[0]) if points and names else None


def _is_usable(folder: Path) -> bool:
    try:
        controllers = (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False
    may_write = os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)
    return may_write and {"memory", "pids"} <= set(controllers)


def _remove_empty(folder: Path) -> None:
    """Remove what worker processes left that are gone."""
    for each in folder.glob(f"{_PREFIX}-*"):
        pid = each.name.removeprefix(f"{_PREFIX}-").partition("-")[0]
        if not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                each.rmdir()
