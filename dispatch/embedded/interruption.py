"""Ctrl-C, SIGTERM and a closed terminal as an orderly end of a coroutine."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Interruption:
    """What somebody outside has asked for so far."""

    once: asyncio.Event = field(default_factory=asyncio.Event)
    twice: asyncio.Event = field(default_factory=asyncio.Event)


async def run(work: Callable[[Interruption], Awaitable[None]]) -> None:
    """Run the coroutine to its end or to the first interruption.

    Promise: the first signal cancels it once, wherever it is, and its clean-up then takes its
    time; a second signal only sets `twice`, for the clean-up to look at. The event is set
    beside the cancellation because redis.asyncio may swallow that on Python 3.11.
    """
    interruption = Interruption()
    task = asyncio.ensure_future(work(interruption))

    def interrupted() -> None:
        if interruption.once.is_set():
            interruption.twice.set()
            return
        interruption.once.set()
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupted)
    try:
        await task
    except asyncio.CancelledError:
        if not interruption.once.is_set():
            task.cancel()  # it was us who were cancelled
            await asyncio.gather(task, return_exceptions=True)
            raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
