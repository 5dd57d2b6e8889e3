"""How a worker process ends: Celery's way if that works in time, else by force.

Celery's warm shutdown waits without limit: for its pool, for a broker that does not answer. So
whoever lets it begin says here until when; then the record is left in order and the process
ends without asking anybody. Not guaranteed: that runs are recorded by then; what this process
could not end is found by the sweeps, as after a crash.
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn

from celery.worker import state as celery_state

from dispatch import clock, log

_log = log.get(__name__)
RESTART_CODE: Final = 70
"""Exit code (`EX_SOFTWARE`): deaf or wedged; a new process may do better."""
ABANDONED_CODE: Final = 71
"""Exit code: told to end and ended by force, with runs that the sweeps must end."""
LEAVE_SECONDS: Final = 8.0
"""From the end of the drain to the end by force: an agent's unwinding (5 s), then its words."""
_LAST_WORDS_SECONDS: Final = 2.0


class Leaving:
    """The latest moment at which this process is gone; nothing until `begin`."""

    def __init__(self, settle: Callable[[], bool]) -> None:
        """Args: settle: leaves the record in order, soon; False: runs are left behind."""
        self._settle = settle
        self._lock = threading.RLock()
        self._deadline: float | None = None
        self._code = 0

    def begin(self, *, within_seconds: float, code: int) -> None:
        """End this process within that time with that code. Any OS thread, any number of times.

        Promise: of several deadlines the first holds, with its code.
        """
        # Reentrant: a signal's handler may come between the lines of the same thread.
        with self._lock:
            deadline = clock.monotonic_seconds() + within_seconds
            is_first = self._deadline is None
            if self._deadline is None or deadline < self._deadline:
                self._deadline, self._code = deadline, code
        if is_first:
            threading.Thread(target=self._wait, name="arbe-leaving", daemon=True).start()

    def _wait(self) -> None:
        pause = threading.Event()
        while (left := (self._deadline or 0.0) - clock.monotonic_seconds()) > 0:
            pause.wait(min(left, 0.5))
        code = self._code if self._settle() else ABANDONED_CODE
        by_force(code, "worker.left_by_force")


def ask_celery(code: int) -> None:
    """Let Celery's main loop begin its warm shutdown, as at SIGTERM, with an exit code."""
    library: Any = celery_state
    library.should_stop = code


def by_force(code: int, event: str, **fields: object) -> NoReturn:
    """Say why with the stacks of all OS threads, and end the process at once."""

    def last_words() -> None:
        _log.error(event, exit_code=code, **fields)
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)

    # Beside this thread: whoever hangs may hold the lock of the log, or be what reads it.
    words = threading.Thread(target=last_words, daemon=True)
    words.start()
    words.join(_LAST_WORDS_SECONDS)
    os._exit(code)
