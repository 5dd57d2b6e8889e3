"""One WebSocket: messages in, answers out, and every chat ended when it ends.

    reader ─▶ lane of @a ─▶ one message after the other ─┐
           └▶ lane of @b ─▶ …                            ├─▶ one frame at a time ─▶ client

Promise: nothing grows without bound. Frames are not gathered here: whoever has one waits until
the client has room, and so do its lane and, with it, the reader; too long, and the socket ends.
Not guaranteed: that chats end if this process dies; they stay open.
"""

import asyncio
from typing import Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from dispatch import log
from dispatch.api import direct_socket, socket_frames
from dispatch.api.socket_lanes import Lanes
from dispatch.errors import ArbeError, Invalid, Unauthenticated
from dispatch.models.houses import Caller
from dispatch.operations import authorize
from dispatch.operations.record import Record

_CLOSE_SECONDS: Final = 1.0
_GONE: Final = 0

_log = log.get(__name__)


class Leaving(msgspec.Struct, frozen=True):
    """Why a socket ends."""

    code: int
    """`_GONE`: the client has left."""
    reason: str = ""
    is_deaf: bool = False
    """The client does not read: a close frame waits behind what it left unread."""


class Session:
    """One accepted socket. `run` it once."""

    def __init__(self, websocket: WebSocket, record: Record, *, token: str | None) -> None:
        loop = asyncio.get_running_loop()
        self._websocket = websocket
        self._record = record
        self._token = token
        self._who: Caller | None = None
        self._sending = asyncio.Lock()
        self._leaving: asyncio.Future[Leaving] = loop.create_future()
        self._lanes = Lanes(record, send=self._send, watch=self._watch)

    def leave(self, code: int, reason: str = "", *, is_deaf: bool = False) -> None:
        """End soon; the first reason counts."""
        if not self._leaving.done():
            self._leaving.set_result(Leaving(code, reason, is_deaf))

    async def run(self) -> None:
        """Serve until the client leaves, or `leave` is called; then end every chat."""
        reader = asyncio.create_task(self._read())
        self._watch(reader)
        try:
            await asyncio.wait([self._leaving])
        finally:
            self.leave(1001, "The server is restarting.")
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await self._lanes.stop()
            leaving = self._leaving.result()
            await self._close(leaving)
            if self._who is not None:
                await self._lanes.end(self._who, reason=leaving.reason or "disconnected")
            _log.info("socket.closed", code=leaving.code, reason=leaving.reason)

    async def refuse(self, error: ArbeError, code: int) -> None:
        """Say why there is no socket, and close it."""
        await self._send(socket_frames.refusal(error, None))
        await self._close(Leaving(code, error.what))

    async def _read(self) -> None:
        try:
            token = self._token or await self._hear_token()
            self._who = await authorize.caller(self._record, token)
            while (text := await self._hear()) is not None:
                await self._take(text, token)
            self.leave(4408, "Nothing was said for too long.")
        except Unauthenticated as error:
            await self._send(socket_frames.refusal(error, None))
            self.leave(4401, "This needs a valid API token.")
        except ArbeError as error:
            await self._send(socket_frames.refusal(error, None))
            self.leave(1013, error.what)
        except WebSocketDisconnect:
            self.leave(_GONE)

    async def _take(self, text: str | bytes, token: str) -> None:
        """Hand a message to its lane; tell what is wrong with it.

        Raises: Unauthenticated, once the token has ended.
        """
        try:
            self._who = await authorize.caller(self._record, token)
            self._lanes.take(self._who, socket_frames.ask_of(text))
        except Unauthenticated:
            raise
        except ArbeError as error:
            await self._send(socket_frames.refusal(error, None))

    async def _hear_token(self) -> str:
        try:
            async with asyncio.timeout(self._record.settings.ws_token_seconds):
                while True:
                    try:
                        return socket_frames.token_of(await self._receive())
                    except Invalid as error:
                        await self._send(socket_frames.refusal(error, None))
        except TimeoutError:
            raise Unauthenticated from None

    async def _hear(self) -> str | bytes | None:
        """Return the next message; None when it has been quiet for too long."""
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while True:
            if self._lanes.is_busy:
                quiet_since = loop.time()
            else:
                quiet_since = max(heard_at, self._lanes.quiet_since)
            quiet_until = quiet_since + self._record.settings.ws_idle_seconds
            if loop.time() >= quiet_until:
                return None
            try:
                async with asyncio.timeout_at(quiet_until):
                    return await self._receive()
            except TimeoutError:
                continue

    async def _receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        found: str | bytes = message.get("text") or message.get("bytes") or ""
        return found

    async def _send(self, frame: str) -> None:
        """Send one frame; waits while the client does not read, up to `ws_send_seconds`."""
        async with self._sending:
            if self._leaving.done():
                return
            try:
                async with asyncio.timeout(self._record.settings.ws_send_seconds):
                    await self._websocket.send_text(frame)
            except TimeoutError:
                self.leave(1008, "The client does not read.", is_deaf=True)
            except (WebSocketDisconnect, RuntimeError):
                self.leave(_GONE)

    async def _close(self, leaving: Leaving) -> None:
        if leaving.code == _GONE:
            return
        closer = direct_socket.closer_of(self._websocket.scope)
        if leaving.is_deaf:
            if closer is not None:
                closer.close(leaving.code, leaving.reason)
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._websocket.close(leaving.code, leaving.reason[:100])
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            _log.info("socket.abandoned", code=leaving.code)

    def _watch(self, task: asyncio.Task[None]) -> None:
        """Let a mistake of ours end the socket instead of a silent task."""
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("socket.broken", exc_info=error)
            self.leave(1011, "Something broke on our side.")
