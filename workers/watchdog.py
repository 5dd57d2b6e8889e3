"""Watches the loop the turns live on: one that hangs takes its whole process with it.

A turn that blocks the loop stops every beat of this process, so its runs are given away while
it still looks alive from outside. An OS thread asks the loop for a sign; the second net, which
needs no Python to run, is faulthandler's own timer: C code that holds the interpreter's lock (a
regular expression that backtracks for ever) stops the OS thread too.

Not guaranteed: how long a process lived on after it was paused as a whole; it is given the full
time again, except by the second net.
"""

import asyncio
import faulthandler
import sys
import threading
from collections.abc import Callable
from typing import Final

ASKS: Final = 12
"""The loop is asked this often before it counts as wedged: every 5 s by default."""
SECOND_NET: Final = 2
"""The C timer waits this many times longer: it cannot say why in the log, and exits with 1."""


class Watchdog:
    """One OS thread beside one loop: `start` it after the loop, `stop` it before."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        wedged_after_seconds: float,
        on_wedged: Callable[[], None],
    ) -> None:
        """Args: on_wedged: called on the watchdog's thread; ends the process."""
        self._loop = loop
        self._wedged_after_seconds = wedged_after_seconds
        self._on_wedged = on_wedged
        self._answered = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="arbe-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; the second net is taken away too."""
        self._stopped.set()
        self._thread.join(timeout=1)
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        unanswered = 0
        self._ask()
        # Asks are counted, not seconds: a process that was paused did not hang meanwhile.
        while not self._stopped.wait(self._wedged_after_seconds / ASKS):
            if self._answered.is_set():
                unanswered = 0
                self._ask()
                continue
            unanswered += 1
            if unanswered >= ASKS:
                self._on_wedged()
                return

    def _ask(self) -> None:
        self._answered.clear()
        self._loop.call_soon_threadsafe(self._answered.set)
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(
                SECOND_NET * self._wedged_after_seconds, exit=True, file=sys.__stderr__
            )
