"""Server-sent events of a followed thread, framed by hand: the protocol is exact to the byte.

    event: data
    data:[{"id":…},…]
    id: <id of the last entry>

    event: control
    data:{"streamNextOffset":"…","streamCursor":"…","upToDate":true}

One control after every data event; a control alone says that nothing is there, or that we live.
LF only and no space after `data:`, for the protocol's clients match it so. The `id:` line is an
addition for a browser's EventSource. A batch is framed once for all its followers.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dispatch import log
from dispatch.api import direct, stream_requests
from dispatch.api.following import Following, Watched
from dispatch.errors import ArbeError
from dispatch.ids import EntryId
from dispatch.streams.batches import Batch
from dispatch.streams.topics import Ending

_FAREWELL_SECONDS: Final = 1.0
_CURSOR_SECONDS: Final = 1.0
"""How long the cursor is taken for unchanged: much less than the interval it counts."""
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_GONE: Final = b'event: gone\ndata:{"code":"gone"}\n\n'

_log = log.get(__name__)


class EventStream(Response):
    """The answer that stays: events until the client, the time, the right or the thread ends.

    Promise: whatever a client has received whole, it can resume after; nothing is left out.
    """

    def __init__(
        self,
        following: Following,
        *,
        after: EntryId,
        cursor: int | None,
        headers: Mapping[str, str],
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                **headers,
                # Not by `media_type`: Starlette would add a charset, and none may be there.
                "content-type": "text/event-stream",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",
            }
        )
        self._following = following
        self._after = after
        self._given_cursor = cursor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve. Raises only before the first byte: what `Feed.follow` raises."""
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        started, last_words = False, b""
        try:
            async with self._following.begin(self._after, receive) as watched:
                await send(head)
                started = True
                telling = _Telling(send, direct.writer_of(scope), self._given_cursor)
                last_words = await self._run(watched, telling)
        except (ArbeError, TimeoutError) as error:
            if not started:
                raise
            # The client comes back with its cursor and hears the reason as a status.
            _log.info("follower.cut", cause=type(error).__name__)
        await self._end(send, last_words)

    async def _run(self, watched: Watched, telling: "_Telling") -> bytes:
        """Send events until it is over; return what is left to say."""
        loop = asyncio.get_running_loop()
        settings = self._following.settings
        ends_at = loop.time() + settings.sse_seconds
        quiet_at = loop.time()
        if telling.can_pour:
            watched.pour_into(telling.pour)
        while True:
            answer = await watched.next(until=min(ends_at, quiet_at))
            now = loop.time()
            match answer:
                case Batch():
                    await telling.say(framed(answer, telling.cursor))
                case Ending():
                    return _last_words(answer, watched.cursor, telling.cursor)
                case None if now >= ends_at:
                    return b""
                case None:
                    await telling.say(control(watched.cursor, telling.cursor, up_to_date=True))
            quiet_at = now + settings.keep_alive_seconds

    @staticmethod
    async def _end(send: Send, last_words: bytes) -> None:
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await send({"type": "http.response.body", "body": last_words})
        except TimeoutError:
            # It does not read: the server closes the connection, after the last whole event.
            _log.info("follower.abandoned")


class _Telling:
    """One answer's way to its client."""

    def __init__(
        self, send: Send, writer: direct.Writer | None, given_cursor: int | None
    ) -> None:
        self._send = send
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._cursor = stream_requests.cursor_after(given_cursor)
        self._cursor_until = self._loop.time() + _CURSOR_SECONDS

    @property
    def cursor(self) -> int:
        """Return the present cursor, which never goes back."""
        now = self._loop.time()
        if now >= self._cursor_until:
            self._cursor = max(self._cursor, stream_requests.cursor_after(None))
            self._cursor_until = now + _CURSOR_SECONDS
        return self._cursor

    @property
    def can_pour(self) -> bool:
        """Tell whether the server lets us write at once."""
        return self._writer is not None

    def pour(self, batch: Batch) -> bool:
        """Write a batch at once; False if the client does not keep up."""
        if self._writer is None:
            return False
        cursor = self.cursor
        form = "chunk", cursor
        chunk = batch.rendered.get(form)
        if chunk is None:
            chunk = batch.rendered[form] = direct.chunk(framed(batch, cursor))
        return self._writer.write(chunk)

    async def say(self, body: bytes) -> None:
        """Send one piece; waits while the client does not keep up."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


def _last_words(ending: Ending, last: EntryId, cursor: int) -> bytes:
    match ending:
        case Ending.GONE:
            return _GONE
        case Ending.LEFT:
            return b""
        case Ending.LAGGING | Ending.CLOSING | Ending.MISSING:
            return control(last, cursor, up_to_date=False)


def framed(batch: Batch, cursor: int) -> bytes:
    """Return a batch's data event and its control; made once for all followers."""
    form = "event", cursor
    found = batch.rendered.get(form)
    if found is None:
        body = _LINE_END.sub(b"\ndata:", batch.json())
        end = control(batch.last_id, cursor, up_to_date=batch.up_to_date)
        found = b"event: data\ndata:%s\nid: %s\n\n%s" % (body, batch.last_id.encode(), end)
        batch.rendered[form] = found
    return found


def control(last: EntryId, cursor: int, *, up_to_date: bool) -> bytes:
    """Return a control event: where to resume."""
    tail = ',"upToDate":true' if up_to_date else ""
    text = f'{{"streamNextOffset":"{last}","streamCursor":"{cursor}"{tail}}}'
    return b"event: control\ndata:%s\n\n" % text.encode()
