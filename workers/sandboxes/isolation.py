"""How a command is kept apart from the worker: bubblewrap where it works, else a bare process.

Not guaranteed, with bubblewrap: limits on memory, process count or disk (that needs cgroups and
quotas), or anything against a hole in the shared kernel. A worker run as root lends its files'
ownership to the command; run workers as a user that owns nothing. Not guaranteed, without it:
any secrecy. The command is then the worker's user: it reads what that user reads.
"""

import functools
import math
import os
import resource
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Final, Protocol

import msgspec

from dispatch import log

_log = log.get(__name__)

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LANG: Final = "C.UTF-8"
INSIDE: Final = "/workspace"
"""Where bubblewrap shows the workspace; paths of the host stay unknown to the command."""
SHARED_FOLDERS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
READABLE_ETC: Final = (
    "alternatives",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "passwd",
    "ssl/certs",
)
MAX_FILE_BYTES: Final = 1024**3
MAX_TEMPORARY_BYTES: Final = 256 * 1024**2
MAX_OPEN_FILES: Final = 1024
PROBE_SECONDS: Final = 5.0
"""Two hundred times what bubblewrap needs on an idle machine."""

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
            arguments=_limited(command, wall_seconds),
            environment={"PATH": PATH, "LANG": LANG, "HOME": str(workspace)},
            folder=workspace,
        )


class Bubblewrap(msgspec.Struct, frozen=True):
    """Own namespaces of every kind: no network, no other processes, one writable folder."""

    program: str
    options: tuple[str, ...] = ()
    """Hardening that older versions do not know."""

    def launch(self, workspace: Path, command: str, *, wall_seconds: float) -> Launch:
        """Say how to start the command inside bubblewrap.

        Promise: bubblewrap itself starts with an empty environment. `--clearenv` is not enough:
        it stays process 1 inside, where the command can read /proc/1/environ.
        """
        return Launch(
            arguments=(
                self.program,
                *("--unshare-all", "--unshare-user", *self.options),
                *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
                *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox"),
                *_system_folders(),
                *("--proc", "/proc", "--dev", "/dev"),
                *("--size", str(MAX_TEMPORARY_BYTES), "--tmpfs", "/tmp"),  # noqa: S108 - inside
                *("--size", str(MAX_TEMPORARY_BYTES), "--tmpfs", "/dev/shm"),  # noqa: S108
                *("--bind", str(workspace), INSIDE, "--chdir", INSIDE),
                *("--remount-ro", "/dev", "--remount-ro", "/"),
                *("--clearenv", "--setenv", "PATH", PATH, "--setenv", "LANG", LANG),
                *("--setenv", "HOME", INSIDE),
                "--",
                *_limited(command, wall_seconds),
            ),
            environment={},
            folder=workspace,
        )


_choosing = threading.Lock()


def choose() -> Isolation:
    """Choose the strongest isolation that works on this machine; blocking.

    Promise: probed once per process, also when several threads ask at once; the choice of no
    isolation is logged as a warning, once.
    """
    with _choosing:
        return _choose_once()


@functools.cache
def _choose_once() -> Isolation:
    program = shutil.which("bwrap")
    if program is None:
        _log.warning("sandbox.not_isolated", cause="bwrap is not installed")
        return Bare()
    cause = ""
    for options in (("--disable-userns",), ()):
        found = Bubblewrap(program, options)
        cause = _probe(found)
        if not cause:
            return found
    _log.warning("sandbox.not_isolated", cause=cause)
    return Bare()


def _probe(isolation: Bubblewrap) -> str:
    """Return why it does not work here, or nothing."""
    launch = isolation.launch(Path("/usr"), "exit 0", wall_seconds=PROBE_SECONDS)
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            launch.arguments,
            env=launch.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    if done.returncode == 0:
        return ""
    return done.stderr.decode(errors="replace").strip()[:500] or f"exit code {done.returncode}"


def _system_folders() -> tuple[str, ...]:
    """Show the host's programs and libraries, and of /etc only what they need and all may read."""
    shown = ["--ro-bind", "/usr", "/usr"]
    for folder in SHARED_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            shown += ["--symlink", str(path.readlink()), folder]
        elif path.is_dir():
            shown += ["--ro-bind", folder, folder]
    for name in READABLE_ETC:
        shown += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return tuple(shown)


def _limited(command: str, wall_seconds: float) -> tuple[str, ...]:
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
