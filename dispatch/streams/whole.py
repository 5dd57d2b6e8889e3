"""Whole streams: what was archived, then what is live, in one space of places.

Everybody who may begin before the first live entry reads here. A page of live entries counts
only if the archive's pointer stood still around it; what lies before the pointer is read from
segments, one at a time. So a reader that meets an archive or a restore sees each entry once.

Not guaranteed: entries that were ephemeral; see `entries`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from dispatch.errors import Unavailable
from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.streams import archives, entries
from dispatch.streams.connection import Connection
from dispatch.streams.entries import Entry
from dispatch.streams.segments import Segment, Segments

Found = TypeVar("Found")
_TRIES: Final = 5
"""The pointer moves once for a thousand entries or so; a reader meets that once."""


class Entries:
    """The entries of all threads, wherever they are kept."""

    def __init__(self, connection: Connection, segments: Segments) -> None:
        self.connection = connection
        self._segments = segments

    async def page(
        self, thread_id: ThreadId, *, after: EntryId = BEGINNING, limit: int
    ) -> list[Entry]:
        """Return up to `limit` entries after a place, oldest first; fewer: nothing is left."""
        found: list[Entry] = []
        while True:
            place, rest = (found[-1].id if found else after), limit - len(found)
            archived, live = await self._live(thread_id, _page_after(thread_id, place, rest))
            if archived <= place:
                return found + live
            segment = await self._segments.after(thread_id, place)
            some = [each for each in _of(segment) if place < each.id <= archived]
            if not some:
                raise _missing()
            found += some[:rest]
            if len(found) == limit:
                return found

    async def pages(
        self, thread_id: ThreadId, *, after: EntryId = BEGINNING, size: int
    ) -> AsyncIterator[list[Entry]]:
        """Yield all that follows a place, page by page; one is held at a time."""
        while True:
            some = await self.page(thread_id, after=after, limit=size)
            if some:
                yield some
                after = some[-1].id
            if len(some) < size:
                return

    async def everything(self, thread_id: ThreadId, *, limit: int) -> list[Entry]:
        """Return the whole stream as it stands, read `limit` entries at a time."""
        return [each async for some in self.pages(thread_id, size=limit) for each in some]

    async def latest(
        self, thread_id: ThreadId, *, before: EntryId | None = None, limit: int
    ) -> list[Entry]:
        """Return up to `limit` entries before a place (or the end), newest first."""
        archived, found = await self._live(thread_id, _latest_before(thread_id, before, limit))
        place = archived if before is None else min(before, archived)
        while place > BEGINNING and len(found) < limit:
            segment = await self._segments.until(thread_id, place)
            if segment is None:
                raise _missing()
            some = [
                each
                for each in reversed(segment.entries)
                if each.id <= archived and (before is None or each.id < before)
            ]
            found += some[: limit - len(found)]
            place = segment.after_id
        return found

    async def find(self, thread_id: ThreadId, entry_id: EntryId) -> Entry | None:
        """Return one entry, or None."""

        async def read(connection: Connection) -> Entry | None:
            return await entries.find(connection, thread_id, entry_id)

        archived, found = await self._live(thread_id, read)
        if found is not None or not BEGINNING < entry_id <= archived:
            return found
        segment = await self._segments.until(thread_id, entry_id)
        return next((each for each in _of(segment) if each.id == entry_id), None)

    async def _live(
        self, thread_id: ThreadId, read: Callable[[Connection], Awaitable[Found]]
    ) -> tuple[EntryId, Found]:
        """Return up to where the thread was archived when it was read, and what was read."""
        for _ in range(_TRIES):
            # One after the other in Redis, in one pipeline.
            before, found, after = await asyncio.gather(
                archives.pointer(self.connection, thread_id),
                read(self.connection),
                archives.pointer(self.connection, thread_id),
            )
            if before == after:
                return after.last_id, found
        raise Unavailable("The archive", cause="it moves")


def _page_after(
    thread_id: ThreadId, after: EntryId, limit: int
) -> Callable[[Connection], Awaitable[list[Entry]]]:
    return lambda connection: entries.page(connection, thread_id, after=after, limit=limit)


def _latest_before(
    thread_id: ThreadId, before: EntryId | None, limit: int
) -> Callable[[Connection], Awaitable[list[Entry]]]:
    return lambda connection: entries.latest(connection, thread_id, before=before, limit=limit)


def _of(segment: Segment | None) -> list[Entry]:
    return list(segment.entries) if segment is not None else []


def _missing() -> Unavailable:
    return Unavailable("The archive", cause="a segment is missing")
