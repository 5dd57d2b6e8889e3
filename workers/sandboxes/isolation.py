"""Chooses how commands are kept apart from the worker: bubblewrap, or not at all if allowed."""

import functools
import itertools
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Final

from dispatch import log
from dispatch.config import Settings
from dispatch.errors import Unavailable
from workers.sandboxes import Limits, cgroups, demotion
from workers.sandboxes.bubblewrap import Bubblewrap
from workers.sandboxes.launches import Bare, Isolation

_log = log.get(__name__)

PROBE_SECONDS: Final = 5.0
"""Three hundred times what bubblewrap needs on an idle machine (16 ms)."""
_PROBE_LIMITS: Final = Limits(
    memory_bytes=1024**3, processes=64, file_bytes=4096, temporary_bytes=4096, cpus=1
)
_HARDENED: Final = ("--disable-userns",)
"""Since bubblewrap 0.8: no user namespace inside, so no capabilities and no fresh counts."""

_choosing = threading.Lock()


def choose(settings: Settings) -> Isolation:
    """Choose the strongest isolation that works on this machine; blocking.

    Promise: probed once per process, also when several threads ask at once; a weak choice is
    logged as a warning, once.
    Raises: Unavailable, when bubblewrap does not work and nobody allowed to go without.
    """
    with _choosing:
        found = _choose_once(settings.sandbox_uid, settings.sandbox_cgroup)
        if isinstance(found, Bubblewrap):
            return found
        if not settings.allow_unsandboxed:
            raise Unavailable(
                "The local sandbox",
                cause=found,
                next_step="Install bubblewrap (and allow user namespaces) on the worker's "
                "machine, bind the thread to an environment of provider docker, or set "
                "ARBE_ALLOW_UNSANDBOXED=1 to run commands with all the worker's rights.",
            )
        _warn_once(found)
        return Bare()


@functools.cache
def _warn_once(cause: str) -> None:
    _log.warning("sandbox.not_isolated", cause=cause)


@functools.cache
def _choose_once(uid: int, cgroup: str) -> Bubblewrap | str:
    """Return the strongest that works, or why nothing does."""
    program = shutil.which("bwrap")
    if program is None:
        return "bwrap is not installed"
    cause = ""
    for way_down, options, bounds, setpriv in itertools.product(
        dict.fromkeys((demotion.find(uid), None)),
        (_HARDENED, ()),
        dict.fromkeys((cgroups.find(cgroup), None)),
        dict.fromkeys((shutil.which("setpriv"), None)),
    ):
        found = Bubblewrap(program, options, way_down, bounds, setpriv)
        cause = _probe(found)
        if not cause:
            _tell_weakness(found)
            return found
    return cause


def _tell_weakness(found: Bubblewrap) -> None:
    if os.geteuid() == 0 and found.demotion is None:
        _log.warning("sandbox.runs_as_root", cause="setpriv or unshare does not work here")
    bound = "process" if found.cgroups is None else "command"
    _log.info("sandbox.chosen", memory_bound_per=bound, hardened=bool(found.options))


def _probe(isolation: Bubblewrap) -> str:
    """Return why it does not work here, or nothing."""
    launch = isolation.launch(
        Path("/usr"), "exit 0", wall_seconds=PROBE_SECONDS, limits=_PROBE_LIMITS
    )
    try:
        if launch.cgroup is not None:
            cgroups.make(launch.cgroup, _PROBE_LIMITS)
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
    finally:
        if launch.cgroup is not None:
            cgroups.remove(launch.cgroup)
    if done.returncode == 0:
        return ""
    return done.stderr.decode(errors="replace").strip()[:500] or f"exit code {done.returncode}"
