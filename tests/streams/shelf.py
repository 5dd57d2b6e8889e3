"""Segments kept in Python: a past for streams that no Postgres knows of."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.streams import segments
from dispatch.streams.connection import Connection
from dispatch.streams.entries import Entry
from dispatch.streams.segments import Segment
from dispatch.streams.whole import Entries


@dataclass
class Kept:
    """A segment's row, with its bytes."""

    fence: str
    after_id: EntryId
    last_id: EntryId
    packed: bytes
    is_dropped: bool = False

    def read(self) -> list[Entry]:
        return segments.unpack(self.packed, checksum=segments.checksum_of(self.packed))


class Shelf:
    """Finds segments as `stores.postgres.segments` does."""

    def __init__(self) -> None:
        self._kept: dict[ThreadId, list[Kept]] = defaultdict(list)

    def clear(self) -> None:
        self._kept.clear()

    def put(
        self, thread_id: ThreadId, fence: str, after_id: EntryId, entries: Sequence[Entry]
    ) -> Kept:
        kept = Kept(fence, after_id, entries[-1].id, segments.pack(entries))
        self._kept[thread_id].append(kept)
        return kept

    def made(self, thread_id: ThreadId, fence: str) -> Kept | None:
        return next((each for each in self._kept[thread_id] if each.fence == fence), None)

    def remove(self, thread_id: ThreadId, kept: Kept) -> None:
        self._kept[thread_id].remove(kept)

    def drop(self, thread_id: ThreadId) -> None:
        for each in self._kept[thread_id]:
            each.is_dropped = True

    def sweep(self, thread_id: ThreadId, until: EntryId) -> None:
        """Remove what was dropped and is not needed up to a place."""
        for each in [each for each in self._kept[thread_id] if each.is_dropped]:
            if each.last_id > until or self._until(thread_id, each.last_id) is not each:
                self.remove(thread_id, each)

    def forget_beyond(self, thread_id: ThreadId, place: EntryId) -> None:
        self._kept[thread_id] = [
            each for each in self._kept[thread_id] if each.last_id <= place
        ]

    def last(self, thread_id: ThreadId) -> EntryId | None:
        return max((each.last_id for each in self._kept[thread_id]), default=None)

    async def after(self, thread_id: ThreadId, place: EntryId) -> Segment | None:
        return _read(self._after(thread_id, place))

    async def until(self, thread_id: ThreadId, place: EntryId) -> Segment | None:
        return _read(self._until(thread_id, place))

    def everything(self, thread_id: ThreadId, until: EntryId) -> list[Entry]:
        """Return the entries of the chain up to a place."""
        found: list[Entry] = []
        place = BEGINNING
        while place < until:
            kept = self._after(thread_id, place)
            if kept is None:
                break
            found += [entry for entry in kept.read() if place < entry.id <= until]
            place = kept.last_id
        return found

    def _after(self, thread_id: ThreadId, place: EntryId) -> Kept | None:
        return self._find(thread_id, lambda each: each.after_id <= place < each.last_id)

    def _until(self, thread_id: ThreadId, place: EntryId) -> Kept | None:
        return self._find(thread_id, lambda each: each.after_id < place <= each.last_id)

    def _find(self, thread_id: ThreadId, fits: Callable[[Kept], bool]) -> Kept | None:
        found = [each for each in self._kept[thread_id] if fits(each)]
        return max(found, key=lambda each: (not each.is_dropped, each.last_id), default=None)


def _read(kept: Kept | None) -> Segment | None:
    return None if kept is None else Segment(kept.after_id, kept.last_id, kept.read())


def live(connection: Connection) -> Entries:
    """Return the entries of streams of which nothing was archived."""
    return Entries(connection, Shelf())
