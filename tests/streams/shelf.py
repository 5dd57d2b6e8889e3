"""Segments kept in Python: a past for streams that no Postgres knows of."""

from collections import defaultdict
from collections.abc import Sequence

from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.streams import segments
from dispatch.streams.connection import Connection
from dispatch.streams.entries import Entry
from dispatch.streams.segments import Segment
from dispatch.streams.whole import Entries


class Shelf:
    """Keeps each segment packed, as a store would; of two for a place the later one counts."""

    def __init__(self) -> None:
        self._kept: dict[ThreadId, dict[EntryId, tuple[EntryId, bytes]]] = defaultdict(dict)

    def put(self, thread_id: ThreadId, after_id: EntryId, entries: Sequence[Entry]) -> None:
        self._kept[thread_id][after_id] = (entries[-1].id, segments.pack(entries))

    async def after(self, thread_id: ThreadId, place: EntryId) -> Segment | None:
        return self._find(thread_id, lambda after_id, last_id: after_id <= place < last_id)

    async def until(self, thread_id: ThreadId, place: EntryId) -> Segment | None:
        return self._find(thread_id, lambda after_id, last_id: after_id < place <= last_id)

    def everything(self, thread_id: ThreadId, until: EntryId) -> list[Entry]:
        """Return the entries of the chain that ends at a place."""
        found: list[Entry] = []
        place = BEGINNING
        while place < until:
            last_id, packed = self._kept[thread_id][place]
            found += segments.unpack(packed, checksum=segments.checksum_of(packed))
            place = last_id
        return found

    def _find(self, thread_id, fits) -> Segment | None:
        for after_id, (last_id, packed) in reversed(self._kept[thread_id].items()):
            if fits(after_id, last_id):
                entries = segments.unpack(packed, checksum=segments.checksum_of(packed))
                return Segment(after_id, last_id, entries)
        return None


def live(connection: Connection) -> Entries:
    """Return the entries of streams of which nothing was archived."""
    return Entries(connection, Shelf())
