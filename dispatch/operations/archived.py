"""What was archived, read back: by readers of whole streams, through a small memory.

Row level security does not decide here: whoever reads was shown to have access to the thread.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from dispatch.errors import Unavailable
from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.models.archives import SegmentRow
from dispatch.models.fold import fold
from dispatch.models.state import ThreadState
from dispatch.stores import objects
from dispatch.stores.postgres import engine, segments
from dispatch.streams import segments as packed
from dispatch.streams.entries import Entry
from dispatch.streams.segments import Segment

_REMEMBERED: Final = 4
"""Segments in memory: readers go through one in several pages."""


class ArchivedEntries:
    """The segments of all threads, as `streams.segments.Segments` asks for them."""

    def __init__(self, projector: engine.Engine) -> None:
        self._projector = projector
        self._remembered: OrderedDict[tuple[ThreadId, EntryId], Segment] = OrderedDict()

    async def after(self, thread_id: ThreadId, place: EntryId) -> Segment | None:
        """Return the segment with the entries after a place. Raises: Unavailable, Invalid."""
        return await self._covering(thread_id, place, includes=False)

    async def until(self, thread_id: ThreadId, place: EntryId) -> Segment | None:
        """Return the segment with the entries up to a place. Raises: Unavailable, Invalid."""
        return await self._covering(thread_id, place, includes=True)

    async def read(self, row: SegmentRow) -> list[Entry]:
        """Return what a row stands for, not from memory. Raises: Unavailable, Invalid."""
        if row.place is not None:
            data = await objects.get(row.place)
        else:
            async with engine.as_worker(self._projector) as connection:
                data = await segments.get_data(connection, segment_id=row.id)
        if data is None:
            raise Unavailable("The archive", cause="a segment is missing")
        return await asyncio.to_thread(packed.unpack, data, checksum=row.checksum)

    async def fold(self, thread_id: ThreadId) -> tuple[ThreadState, EntryId]:
        """Return the state that a thread's archived entries make, and the last of them.

        Raises: Unavailable, Invalid.
        """
        state, place = ThreadState(), BEGINNING
        while (segment := await self.after(thread_id, place)) is not None:
            rest = [entry for entry in segment.entries if entry.id > place]
            state, place = fold(rest, state), segment.last_id
        return state, place

    async def _covering(
        self, thread_id: ThreadId, place: EntryId, *, includes: bool
    ) -> Segment | None:
        known = self._find_remembered(thread_id, place, includes=includes)
        if known is not None:
            return known
        async with engine.as_worker(self._projector) as connection:
            row = await segments.find_covering(
                connection, thread_id=thread_id, place=place, includes=includes
            )
        if row is None:
            return None
        segment = Segment(row.after_id, row.last_id, await self.read(row))
        self._remembered[thread_id, row.after_id] = segment
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return segment

    def _find_remembered(
        self, thread_id: ThreadId, place: EntryId, *, includes: bool
    ) -> Segment | None:
        for key, each in self._remembered.items():
            begins = each.after_id < place if includes else each.after_id <= place
            ends = each.last_id >= place if includes else each.last_id > place
            if key[0] == thread_id and begins and ends:
                self._remembered.move_to_end(key)
                return each
        return None
