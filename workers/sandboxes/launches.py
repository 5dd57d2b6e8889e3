"""How a command becomes a process to start, with limits; and the way without isolation.

Not guaranteed here: any secrecy. A bare command is the worker's user and reads what it reads.
"""

import math
import os
import resource
from pathlib import Path
from typing import Final, Protocol

import msgspec

from workers.sandboxes import Limits

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LANG: Final = "C.UTF-8"
MAX_OPEN_FILES: Final = 1024

# The shell sets the limits: Python's preexec_fn may deadlock in a process with OS threads.
# Processes last, since the shell itself must still start. dash says -p what others say -u.
_LIMITED: Final = (
    'ulimit -c 0; ulimit -t "$2"; ulimit -f "$3"; ulimit -n "$4"; '
    '[ -z "$5" ] || ulimit -v "$5"; '
    '[ -z "$6" ] || ulimit -u "$6" 2>/dev/null || ulimit -p "$6"; '
    'exec /bin/sh -c "$1"'
)
_FILE_BLOCK_BYTES: Final = 512
"""POSIX: `ulimit -f` counts blocks of this size."""
_MEMORY_BLOCK_BYTES: Final = 1024
"""`ulimit -v` counts blocks of this size."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a process: its arguments, whole environment and folder."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    cgroup: Path | None = None
    """To be made before the start, and removed after the end."""


class Isolation(Protocol):
    """Turns a shell command into a process to start."""

    @property
    def outlives_its_command(self) -> bool:
        """The process is not the command's own: a signal that ends it came from outside."""
        ...

    def own(self, workspace: Path) -> None:
        """Let commands write the workspace. Blocking. Raises: OSError."""
        ...

    def launch(
        self, workspace: Path, command: str, *, wall_seconds: float, limits: Limits
    ) -> Launch:
        """Say how to start the command in the workspace."""
        ...


class Bare(msgspec.Struct, frozen=True):
    """No isolation but a session of its own, limits, and none of the worker's environment.

    Not guaranteed: a bound on processes; the kernel would count all of the worker's user.
    """

    @property
    def outlives_its_command(self) -> bool:
        """It is the command."""
        return False

    def own(self, workspace: Path) -> None:
        """Do nothing: commands are the worker's user."""

    def launch(
        self, workspace: Path, command: str, *, wall_seconds: float, limits: Limits
    ) -> Launch:
        """Say how to start the command as a plain child of the worker."""
        return Launch(
            arguments=limited(command, wall_seconds, limits, processes=None),
            environment={"PATH": PATH, "LANG": LANG, "HOME": str(workspace)},
            folder=workspace,
        )


def limited(
    command: str,
    wall_seconds: float,
    limits: Limits,
    *,
    processes: int | None,
    memory: bool = True,
) -> tuple[str, ...]:
    """Return the arguments of a shell that limits itself, then becomes the command's.

    Args: processes: None: not bounded here. memory: False: something better bounds it.
    """
    # All cores for the whole wall clock: stops only what outlived it.
    cpu_seconds = math.ceil(wall_seconds) * (os.cpu_count() or 1) + 1
    memory_bytes = _at_most(resource.RLIMIT_AS, limits.memory_bytes)
    given = (
        str(_at_most(resource.RLIMIT_CPU, cpu_seconds)),
        str(_at_most(resource.RLIMIT_FSIZE, limits.file_bytes) // _FILE_BLOCK_BYTES),
        str(_at_most(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)),
        str(memory_bytes // _MEMORY_BLOCK_BYTES) if memory else "",
        "" if processes is None else str(_at_most(resource.RLIMIT_NPROC, processes)),
    )
    return ("/bin/sh", "-c", _LIMITED, "sh", command, *given)


def _at_most(limit: int, wanted: int) -> int:
    """Stay within the worker's own hard limit; a shell may only lower it."""
    _, hard = resource.getrlimit(limit)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
