"""The tools of a turn, performed by the worker when pi asks for them over a Unix socket.

One connection is one call: a JSON line in, a JSON line out. pi closes it to abort the call. The
output of a running tool does not go to pi, which would only repeat it as an event: `hands` put
it on the stream.
"""

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from dispatch import log
from workers.agents import ToolAnswer

_log = log.get(__name__)

MAX_CALL_BYTES: Final = 16 * 1024 * 1024
"""One call's line; what a model writes is bounded by its `max_tokens`."""
CLOSE_SECONDS: Final = 2.0

Perform = Callable[[str], Awaitable[ToolAnswer]]
"""Performs the announced call of that id."""


class _Call(msgspec.Struct, frozen=True):
    token: str
    id: str


class Bridge:
    """A turn's door for its pi."""

    def __init__(self, token: str, perform: Perform) -> None:
        self.active_count = 0
        """Calls under way: while one is, pi is silent with good reason."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises what a call raised: the turn cannot go on."""
        self._token = token
        self._perform = perform
        self._calls: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, socket: Path) -> None:
        """Listen; the folder around the socket keeps strangers out, the token the rest."""
        self._server = await asyncio.start_unix_server(
            self._serve, path=socket, limit=MAX_CALL_BYTES
        )

    async def cancel_calls(self) -> None:
        """Cancel what is under way and wait for it, a bounded time."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=CLOSE_SECONDS)

    async def close(self) -> None:
        """Stop listening and cancel what is under way."""
        if self._server is not None:
            self._server.close()
        await self.cancel_calls()
        if self.broken.done():
            # It was raised where it mattered, or came too late to matter.
            self.broken.exception()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                await self._answer(reader, writer)
            finally:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = self._read_call(await reader.readline())
        if call is None:
            return
        performing = asyncio.create_task(self._run(call, writer))
        self._calls.add(performing)
        performing.add_done_callback(self._calls.discard)
        left = asyncio.create_task(reader.read(1))
        await asyncio.wait({performing, left}, return_when=asyncio.FIRST_COMPLETED)
        performing.cancel()
        left.cancel()
        await asyncio.wait({performing, left})

    def _read_call(self, line: bytes) -> _Call | None:
        try:
            call = msgspec.json.decode(line, type=_Call)
        except msgspec.DecodeError:
            return None
        if not hmac.compare_digest(call.token.encode(), self._token.encode()):
            _log.warning("pi.bridge_refused")
            return None
        return call

    async def _run(self, call: _Call, writer: asyncio.StreamWriter) -> None:
        self.active_count += 1
        try:
            answer = await self._perform(call.id)
        except Exception as error:  # noqa: BLE001 - raised where the turn is awaited
            if not self.broken.done():
                self.broken.set_exception(error)
            return
        finally:
            self.active_count -= 1
        line: dict[str, Any] = {"text": answer.text, "isError": answer.is_error}
        with contextlib.suppress(OSError):
            writer.write(msgspec.json.encode(line) + b"\n")
            await writer.drain()
