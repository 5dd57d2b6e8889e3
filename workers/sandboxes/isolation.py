"""Chooses how commands are kept apart from the worker: bubblewrap where it works, else not.

Not guaranteed: isolation. Without bubblewrap commands still run, and a warning says so.
"""

import functools
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Final

from dispatch import log
from workers.sandboxes.bubblewrap import Bubblewrap
from workers.sandboxes.launches import Bare, Isolation

_log = log.get(__name__)

PROBE_SECONDS: Final = 5.0
"""Three hundred times what bubblewrap needs on an idle machine (16 ms)."""

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
