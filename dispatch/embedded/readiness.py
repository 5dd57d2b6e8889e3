"""Waiting for a server that is starting. Not guaranteed: that it still lives a moment later."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dispatch import errors

_FIRST_WAIT_SECONDS: Final = 0.05
"""Short against a server's start (0.2 s and more), long against a refused connect."""
_MAX_WAIT_SECONDS: Final = 0.5
"""A recovering Postgres logs every probe."""


async def wait_until_answers(
    probe: Callable[[], Awaitable[bool]], *, server: str, timeout_seconds: float
) -> None:
    """Ask until the probe says yes.

    Raises: Unavailable, when it has not within the timeout; the server's own log says why.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            wait_seconds = _FIRST_WAIT_SECONDS
            while not await probe():
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(1.5 * wait_seconds, _MAX_WAIT_SECONDS)
    except TimeoutError as late:
        raise errors.Unavailable(
            server,
            cause=f"no answer within {timeout_seconds:g} s",
            next_step="Read what it wrote to the log.",
        ) from late
