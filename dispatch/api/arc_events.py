"""The answer to an ARC request that asked for a stream: events until the turn is over."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dispatch import log
from dispatch.arc import sse
from dispatch.arc.envelope import Call
from dispatch.operations import arc_chats
from dispatch.operations.arc_chats import ChatEvent, ChatTurn
from dispatch.operations.record import Record

_log = log.get(__name__)


class ChatStream(Response):
    """Tells a turn as it goes. Whoever hangs up, or reads no more, leaves the turn alone."""

    def __init__(self, record: Record, turn: ChatTurn, call: Call) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(sse.HEADERS)
        self._record = record
        self._turn = turn
        self._call = call
        self._stalled_seconds = 2 * record.settings.keep_alive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, until the turn is over or the client is."""
        del scope
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        telling = asyncio.create_task(self._tell(send))
        hung_up = asyncio.create_task(_hang_up(receive))
        try:
            await asyncio.wait({telling, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                await telling
        finally:
            for task in (telling, hung_up):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _tell(self, send: Send) -> None:
        try:
            async with aclosing(self._frames()) as frames:
                async for frame in frames:
                    await self._send(send, frame, more=True)
            await self._send(send, b"", more=False)
        except TimeoutError:
            _log.info("arc.client_stalled", thread_id=str(self._turn.thread_id))

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        async with asyncio.timeout(self._stalled_seconds):
            await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _frames(self) -> AsyncGenerator[bytes]:
        """Yield the events as frames, and a sign of life where there is none for a while."""
        yield sse.PING
        async with aclosing(arc_chats.events(self._record, self._turn)) as events:
            coming = _next(events)
            try:
                while True:
                    await asyncio.wait(
                        {coming}, timeout=self._record.settings.keep_alive_seconds
                    )
                    if not coming.done():
                        yield sse.PING
                        continue
                    event = coming.result()
                    if event is None:
                        return
                    yield sse.frames(event, self._call, self._turn.chat_id)
                    coming = _next(events)
            finally:
                coming.cancel()
                with suppress(asyncio.CancelledError):
                    await coming


def _next(events: AsyncGenerator[ChatEvent]) -> "asyncio.Task[ChatEvent | None]":
    return asyncio.ensure_future(_take(events))


async def _take(events: AsyncGenerator[ChatEvent]) -> ChatEvent | None:
    return await anext(events, None)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
