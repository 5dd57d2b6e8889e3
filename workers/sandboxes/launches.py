"""How a command becomes a process to start, with limits; and the way without isolation.

Not guaranteed here: any secrecy. A bare command is the worker's user and reads what it reads.
"""

import math
import os
import resource
from pathlib import Path
from typing import Final, Protocol

import msgspec

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LANG: Final = "C.UTF-8"
MAX_FILE_BYTES: Final = 1024**3
MAX_OPEN_FILES: Final = 1024

# The shell sets the limits: Python's preexec_fn may deadlock in a process with OS threads.
_LIMITED: Final = (
    'ulimit -c 0; ulimit -t "$2"; ulimit -f "$3"; ulimit -n "$4"; exec /bin/sh -c "$1"'
)
_FILE_BLOCK_BYTES: Final = 512
"""POSIX: `ulimit -f` counts blocks of this size."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a process: its arguments, whole environment and folder."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: Path


class Isolation(Protocol):
    """Turns a shell command into a process to start."""

    def launch(self, workspace: Path, command: str, *, wall_seconds: float) -> Launch:
        """Say how to start the command in the workspace."""
        ...


class Bare(msgspec.Struct, frozen=True):
    """No isolation but a session of its own, limits, and none of the worker's environment."""

    def launch(self, workspace: Path, command: str, *, wall_seconds: float) -> Launch:
        """Say how to start the command as a plain child of the worker."""
        return Launch(
            arguments=limited(command, wall_seconds),
            environment={"PATH": PATH, "LANG": LANG, "HOME": str(workspace)},
            folder=workspace,
        )


def limited(command: str, wall_seconds: float) -> tuple[str, ...]:
    """Return the arguments of a shell that limits itself, then becomes the command's."""
    # All cores for the whole wall clock: stops only what outlived it.
    cpu_seconds = math.ceil(wall_seconds) * (os.cpu_count() or 1) + 1
    limits = (
        str(_at_most(resource.RLIMIT_CPU, cpu_seconds)),
        str(_at_most(resource.RLIMIT_FSIZE, MAX_FILE_BYTES) // _FILE_BLOCK_BYTES),
        str(_at_most(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)),
    )
    return ("/bin/sh", "-c", _LIMITED, "sh", command, *limits)


def _at_most(limit: int, wanted: int) -> int:
    """Stay within the worker's own hard limit; a shell may only lower it."""
    _, hard = resource.getrlimit(limit)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
