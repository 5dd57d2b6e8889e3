"""Isolation by bubblewrap: what a command sees of the machine, which is next to nothing.

Not guaranteed: a quota of the disk, or anything against a hole in the shared kernel. To the
kernel the command is the worker's user; a root worker's is demoted first. Without a cgroup
memory is bounded for each process, not for their sum.
"""

import itertools
import os
from pathlib import Path
from typing import Final

import msgspec

from workers.sandboxes import Limits
from workers.sandboxes.cgroups import Cgroups, enter
from workers.sandboxes.demotion import Demotion
from workers.sandboxes.launches import LANG, PATH, Launch, limited

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
# A worker run as root makes a command whose user owns the kernel's files under /proc, and for
# some of them ownership is enough to write (`sys/kernel/core_pattern` runs a program as root).
# bubblewrap misses them, as their folders are not writable. The lists are those of the OCI
# runtimes (containerd's default spec).
READ_ONLY_PROC: Final = ("bus", "fs", "irq", "sys", "sysrq-trigger")
HIDDEN_PROC: Final = (
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "mtrr",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
)
_PROCESSES_PER_NAMESPACE: Final = (5, 14)
"""Since this Linux a limit on processes counts those of its own user namespace alone."""
# The kernel tells a death of the parent only to who asked before: it may be gone already.
_IF_PARENT_LIVES: Final = '[ "$PPID" = "$0" ] && unset PWD && exec "$@"'
NETWORK_ETC: Final = ("hosts", "resolv.conf")


class Bubblewrap(msgspec.Struct, frozen=True):
    """Own namespaces of every kind: no network, no other processes, one writable folder."""

    program: str
    options: tuple[str, ...] = ()
    """Hardening that older versions do not know."""
    demotion: Demotion | None = None
    """For a root worker: how its commands become another user's."""
    cgroups: Cgroups | None = None
    setpriv: str | None = None
    """Ends what starts while its worker is killed; None: bubblewrap alone, a moment late."""

    @property
    def outlives_its_command(self) -> bool:
        """It waits outside for the command's end and tells it as an exit code."""
        return True

    def own(self, workspace: Path) -> None:
        """Let commands write the workspace, whoever they are to the kernel. Raises: OSError."""
        if self.demotion is not None:
            self.demotion.own(workspace)

    def launch(
        self, workspace: Path, command: str, *, wall_seconds: float, limits: Limits
    ) -> Launch:
        """Say how to start the command inside bubblewrap.

        Promise: bubblewrap itself starts with an empty environment. `--clearenv` is not enough:
        it stays process 1 inside, where the command can read /proc/1/environ. All inside ends
        with the OS thread that started it (`--die-with-parent`), so that thread is the loop's.
        """
        shown = workspace if self.demotion is None else Path(self.demotion.mount_point)
        size = str(limits.temporary_bytes)
        cgroup = None if self.cgroups is None else self.cgroups.name()
        bounds = limited(
            command,
            wall_seconds,
            limits,
            processes=self._processes(limits),
            memory=cgroup is None,
        )
        return Launch(
            arguments=(
                *(() if cgroup is None else enter(cgroup)),
                *self._before(workspace),
                self.program,
                *("--unshare-all", "--unshare-user", *self.options),
                *(("--share-net",) if limits.network else ()),
                *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
                *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox"),
                *_system_folders(network=limits.network),
                *("--proc", "/proc", *_kernel_files(), "--dev", "/dev"),
                *("--size", size, "--tmpfs", "/tmp"),  # noqa: S108 - inside
                *("--size", size, "--tmpfs", "/dev/shm"),  # noqa: S108
                *("--bind", str(shown), INSIDE, "--chdir", INSIDE),
                *("--remount-ro", "/dev", "--remount-ro", "/"),
                *("--clearenv", "--setenv", "PATH", PATH, "--setenv", "LANG", LANG),
                *("--setenv", "HOME", INSIDE),
                "--",
                *bounds,
            ),
            environment={},
            folder=Path("/"),
            cgroup=cgroup,
        )

    def _before(self, workspace: Path) -> tuple[str, ...]:
        """Return what stands before bubblewrap: the step down, and the bond to this worker."""
        if self.demotion is not None:
            before = self.demotion.arguments(workspace)
        elif self.setpriv is not None:
            before = (self.setpriv, "--pdeathsig", "KILL")
        else:
            return ()
        return (*before, "/bin/sh", "-c", _IF_PARENT_LIVES, str(os.getpid()))

    def _processes(self, limits: Limits) -> int | None:
        """Return the bound to set, None where it would count what is not the command's."""
        if _kernel() < _PROCESSES_PER_NAMESPACE:
            return None
        return limits.processes


def _kernel() -> tuple[int, ...]:
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int("".join(itertools.takewhile(str.isdigit, minor)) or 0)


def _system_folders(*, network: bool) -> tuple[str, ...]:
    """Show the host's programs, and of /etc only what they need and everybody may read."""
    shown = ["--ro-bind", "/usr", "/usr"]
    for folder in SHARED_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            shown += ["--symlink", str(path.readlink()), folder]
        elif path.is_dir():
            shown += ["--ro-bind", folder, folder]
    for name in (*READABLE_ETC, *(NETWORK_ETC if network else ())):
        shown += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return tuple(shown)


def _kernel_files() -> tuple[str, ...]:
    """Cover what under /proc belongs to the kernel rather than to a process."""
    covered: list[str] = []
    for name in READ_ONLY_PROC:
        covered += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for path in (Path("/proc", name) for name in HIDDEN_PROC):
        if path.is_dir():
            covered += ["--tmpfs", str(path), "--remount-ro", str(path)]
        elif path.exists():
            covered += ["--ro-bind", "/dev/null", str(path)]
    return tuple(covered)
