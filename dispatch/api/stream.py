"""A thread's stream over HTTP: the read side of the Durable Streams protocol.

One URL per thread. GET without `live` answers with what is there, `live=long-poll` waits for
more, `live=sse` stays; HEAD tells the tail. Messages are the wire entries as published.
Who may read is decided before `serve` is called; followers are asked again while they follow.
Not served: writing (405), forks and subscriptions.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dispatch.api import stream_requests
from dispatch.api.following import Following
from dispatch.api.stream_events import EventStream
from dispatch.api.stream_requests import Tail, Wanted
from dispatch.config import Settings
from dispatch.errors import Gone, NotFound
from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.streams import entries
from dispatch.streams.batches import Batch
from dispatch.streams.feed import Feed
from dispatch.streams.topics import Ending
from dispatch.streams.whole import Entries

SECURITY_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer of this route, problems too: the protocol asks for them."""
METHODS: Final = "GET, HEAD"

_NEXT_OFFSET: Final = "stream-next-offset"
_UP_TO_DATE: Final = "stream-up-to-date"
_CURSOR: Final = "stream-cursor"
_NO_STORE: Final = "no-store"
_AT_TAIL: Final = "private, no-cache"
_BEFORE_TAIL: Final = "private, max-age=60, stale-while-revalidate=300"
"""What lies before the tail changes only by chunks going: a minute late does no harm."""


async def serve(
    request: Request,
    *,
    thread_id: ThreadId,
    feed: Feed,
    whole: Entries,
    settings: Settings,
    still_allowed: Callable[[], Awaitable[bool]],
    rhythm: int = 0,
) -> Response:
    """Answer any request for a thread's stream.

    Promise: reads only. An event stream's failures are raised when it is served, before its
    first byte, so they become problems like all others.
    Args: still_allowed: asks afresh whether the caller may still read; awaited every
        `authorization_cache_seconds` while following. rhythm: followers that share it are
        asked about at the same moments (a member's number, say).
    Raises: Invalid (status 400 on this route), Gone, NotFound, TooBusy, Unavailable.
    """
    if request.method == "HEAD":
        return _described(await entries.tail(whole.connection, thread_id))
    if request.method != "GET":
        return Response(status_code=405, headers={**SECURITY_HEADERS, "allow": METHODS})
    wanted = stream_requests.read(request, max_tail=settings.max_page_size)
    after = await _place(whole, thread_id, wanted.start)
    following = Following(thread_id, feed, settings, still_allowed, rhythm)
    match wanted.live:
        case "sse":
            return EventStream(
                following, after=after, cursor=wanted.cursor, headers=SECURITY_HEADERS
            )
        case "long-poll":
            return await _long_poll(request, following, after, wanted.cursor)
        case None:
            return await _catch_up(request, following, after, wanted)


async def _place(whole: Entries, thread_id: ThreadId, start: EntryId | Tail) -> EntryId:
    """Return the id after which to read."""
    if not isinstance(start, Tail):
        return start
    if start.count == 0:
        return await entries.tail(whole.connection, thread_id)
    found = await whole.latest(thread_id, limit=start.count + 1)
    return found[-1].id if len(found) > start.count else BEGINNING


async def _catch_up(
    request: Request, following: Following, after: EntryId, wanted: Wanted
) -> Response:
    if wanted.start == Tail(0):
        return _json(b"[]", {_NEXT_OFFSET: after, _UP_TO_DATE: "true"}, cache=_NO_STORE)
    batch = await following.feed.read(following.thread_id, after)
    return _page(request, batch, after, cache=_AT_TAIL if batch.up_to_date else _BEFORE_TAIL)


async def _long_poll(
    request: Request, following: Following, after: EntryId, given_cursor: int | None
) -> Response:
    """Answer with what follows a place, as soon as something does."""
    cursor = {_CURSOR: str(stream_requests.cursor_after(given_cursor))}
    batch = await following.feed.read(following.thread_id, after)
    if batch.frames:
        return _page(request, batch, after, cache=_AT_TAIL, more=cursor)
    until = asyncio.get_running_loop().time() + following.settings.long_poll_seconds
    async with following.begin(after, request.receive) as watched:
        match await watched.next(until=until):
            case Batch() as batch:
                return _page(request, batch, after, cache=_AT_TAIL, more=cursor)
            case Ending.GONE:
                raise Gone(str(following.thread_id))
            case Ending.MISSING:
                raise NotFound("thread", str(following.thread_id))
            case Ending() | None:
                return _nothing_yet(after, cursor)


def _page(
    request: Request,
    batch: Batch,
    after: EntryId,
    *,
    cache: str,
    more: dict[str, str] | None = None,
) -> Response:
    # A thread's id never comes again, so the place and the count identify the content.
    tag = f'"{after}:{batch.last_id}:{len(batch.frames)}"'
    headers = {_NEXT_OFFSET: batch.last_id, "etag": tag, **(more or {})}
    if batch.up_to_date:
        headers[_UP_TO_DATE] = "true"
    if tag in _tags(request):
        return Response(
            status_code=304, headers={**SECURITY_HEADERS, **headers, "cache-control": cache}
        )
    return _json(batch.json(), headers, cache=cache)


def _tags(request: Request) -> list[str]:
    given = request.headers.get("if-none-match", "")
    return [tag.strip().removeprefix("W/") for tag in given.split(",")]


def _json(body: bytes, headers: dict[str, str], *, cache: str) -> Response:
    return Response(
        body,
        headers={
            **SECURITY_HEADERS,
            **headers,
            "content-type": "application/json",
            "cache-control": cache,
        },
    )


def _nothing_yet(after: EntryId, cursor: dict[str, str]) -> Response:
    headers = {_NEXT_OFFSET: after, _UP_TO_DATE: "true", "cache-control": _NO_STORE, **cursor}
    return Response(status_code=204, headers={**SECURITY_HEADERS, **headers})


def _described(tail: EntryId) -> Response:
    headers = {
        "content-type": "application/json",
        _NEXT_OFFSET: tail,
        "cache-control": _NO_STORE,
    }
    return Response(headers={**SECURITY_HEADERS, **headers})
