"""Batches: what a follower is handed, and how they are read from a stream.

Frames are the wire entries as they were published; nobody decodes them on the way through. One
`Batch` is shared by all who are at the same place, with whatever was rendered from it.
Not guaranteed: a batch's entries are still on the stream (chunks are deleted once their message
stands).
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from dispatch.errors import ArbeError
from dispatch.ids import EntryId, ThreadId
from dispatch.streams import entries
from dispatch.streams.whole import Entries

MAX_BATCH_BYTES: Final = 256 * 1024
"""A read stops after this much; the entry that crosses the line still belongs to it."""
_FIRST_READ_ENTRIES: Final = 32
"""Redis can bound a read by entries only; a small first one tells how large they are."""

_PREFIX: Final = len(b'{"id":"')
_ID_END: Final = _PREFIX + 26


def id_of(frame: bytes) -> bytes:
    """Return the id of a wire entry, which always stands first."""
    return frame[_PREFIX:_ID_END]


class Batch:
    """Consecutive wire entries of one thread, oldest first."""

    __slots__ = ("frames", "last_id", "rendered", "up_to_date")

    def __init__(self, frames: Sequence[bytes], *, last_id: EntryId, up_to_date: bool) -> None:
        self.frames = frames
        self.last_id = last_id
        """Place after the batch: where the next one begins."""
        self.up_to_date = up_to_date
        """True: nothing more was there when it was made."""
        self.rendered: dict[tuple[str, int], bytes] = {}
        """What was made from it, by form and cursor: each is made once for all followers."""

    def json(self) -> bytes:
        """Return the entries as a JSON array."""
        form = "json", 0
        found = self.rendered.get(form)
        if found is None:
            found = self.rendered[form] = b"[%s]" % b",".join(self.frames)
        return found


class Reader:
    """Reads batches; those who ask for the same place at once share one read.

    Promise: what stood on the stream when `read` was called is in the answer, or behind it: a
    caller never joins a read that has already begun.
    """

    def __init__(self, whole: Entries, *, max_entries: int) -> None:
        self._whole = whole
        self._max_entries = max_entries
        self._running: dict[tuple[ThreadId, EntryId], asyncio.Task[Batch]] = {}
        self._next: dict[tuple[ThreadId, EntryId], asyncio.Task[Batch]] = {}

    async def read(self, thread_id: ThreadId, after: EntryId) -> Batch:
        """Return what follows a place, up to `max_entries` and about `MAX_BATCH_BYTES`.

        Raises: Gone, NotFound, Unavailable.
        """
        place = (thread_id, after)
        task = self._next.get(place)
        if task is None:
            task = self._next[place] = asyncio.create_task(self._run(place))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _run(self, place: tuple[ThreadId, EntryId]) -> Batch:
        before = self._running.get(place)
        if before is not None:
            await asyncio.wait([before])
        self._running[place] = self._next.pop(place)
        try:
            return await self._read(*place)
        finally:
            del self._running[place]

    async def _read(self, thread_id: ThreadId, after: EntryId) -> Batch:
        frames: list[bytes] = []
        size, limit, last = 0, _FIRST_READ_ENTRIES, after
        while True:
            limit = min(limit, self._max_entries - len(frames))
            found = await self._whole.page(thread_id, after=last, limit=limit)
            frames += [entry.wire() for entry in found]
            size += sum(len(entry.raw) for entry in found)
            last = found[-1].id if found else last
            up_to_date = len(found) < limit
            if up_to_date or len(frames) >= self._max_entries or size >= MAX_BATCH_BYTES:
                break
            limit = min(4 * limit, 1 + (MAX_BATCH_BYTES - size) * len(frames) // size)
        if not frames:
            await entries.require_open(self._whole.connection, thread_id)
        return Batch(frames, last_id=last, up_to_date=up_to_date)


def _retrieve(task: asyncio.Task[Batch]) -> None:
    """Look at a failure that all who waited for have left, so that asyncio does not warn."""
    if not task.cancelled() and not isinstance(task.exception(), ArbeError | None):
        task.get_loop().call_exception_handler(
            {"message": "reading a stream failed", "exception": task.exception()}
        )
