"""How long and how often a call is repeated: growing waits, with jitter, up to a limit."""

import asyncio
import random
from typing import Final

from dispatch import clock
from dispatch.errors import ArbeError

_FIRST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 5.0


class Patience:
    """Waits between tries; runs out so many seconds after the first failure in a row."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._failures = 0
        self._until = 0.0

    def renew(self, limit_seconds: float) -> None:
        """Forget past failures: something worked; be this patient from now on."""
        self._failures = 0
        self._limit_seconds = limit_seconds

    def extend(self, limit_seconds: float) -> None:
        """Be patient for that long from now on, if that is longer than it would have been."""
        self._limit_seconds = max(self._limit_seconds, limit_seconds)
        if self._failures:
            self._until = max(self._until, clock.monotonic_seconds() + limit_seconds)

    async def wait(self, error: ArbeError) -> None:
        """Wait before the next try.

        Raises: the error itself, when patience has run out.
        """
        now = clock.monotonic_seconds()
        if self._failures == 0:
            self._until = now + self._limit_seconds
        seconds = min(_FIRST_SECONDS * 2**self._failures, _LONGEST_SECONDS)
        seconds *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        asked = error.fields.get("retryAfterSeconds")
        if isinstance(asked, int | float):
            seconds = max(seconds, asked)
        if now + seconds > self._until:
            raise error
        self._failures += 1
        await asyncio.sleep(seconds)
