"""The WebSockets that this process serves, and how they end."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from dispatch.errors import TooBusy

_FAREWELL_SECONDS: Final = 4.0
"""Chats are ended and sockets closed within this at shutdown; the server waits 5 s."""


class Closable(Protocol):
    """A socket that can be told to end."""

    def leave(self, code: int, reason: str) -> None:
        """End soon, with this code."""


class Sockets:
    """One per process; close it before what its sockets work with."""

    def __init__(self, *, max_sockets: int) -> None:
        self._max_sockets = max_sockets
        self._open: dict[Closable, asyncio.Future[None]] = {}
        self._closing = False

    @contextmanager
    def holding(self, socket: Closable) -> Generator[None]:
        """Count a socket as open for the length of a block.

        Raises: TooBusy, beyond `ws_max_sockets` or while the process shuts down.
        """
        if self._closing or len(self._open) >= self._max_sockets:
            raise TooBusy(
                f"This process serves {len(self._open)} sockets (ARBE_WS_MAX_SOCKETS).",
                retry_after_seconds=5.0,
            )
        gone = self._open[socket] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._open[socket]
            gone.set_result(None)

    async def close(self) -> None:
        """End all sockets with 1001, their chats too, in bounded time. Repeatable."""
        self._closing = True
        for socket in self._open:
            socket.leave(1001, "The server is restarting.")
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await asyncio.gather(*self._open.values())
