"""A topic: the recent frames of one thread in this process, and those who follow it.

Pure bookkeeping, nothing here waits for Redis. The ring is gapless from its floor to its last
frame; `feed` keeps it so. Not guaranteed: that a follower's place is still in the ring; one
that fell out of it is cut off and comes back with its cursor.
"""

import asyncio
import bisect
import enum
from collections.abc import Callable, Sequence
from typing import Final

from dispatch.ids import EntryId, ThreadId
from dispatch.streams.batches import Batch, id_of

_KEEP_BYTES: Final = 32 * 1024
"""Frames everybody has read stay up to this much, for those who come back with a cursor."""

_MAX_HELD_FRAMES: Final = 1_000
"""Frames heard while the stream is read; beyond it they are dropped and read as well."""


class Ending(enum.Enum):
    """Why following is over; each but GONE means: come back with your cursor."""

    GONE = "gone"
    """The thread was deleted."""
    LAGGING = "lagging"
    """The follower reads slower than the thread is written, beyond the bound."""
    CLOSING = "closing"
    """This process is going away."""
    MISSING = "missing"
    """The stream is not there (any more): Redis has forgotten it."""
    LEFT = "left"
    """The follower itself hung up."""


Sink = Callable[[Batch], bool]
"""Takes a batch for a waiting follower on the spot; False: not now, wake it. Must not fail."""


class Place:
    """Where one follower stands in a topic, and how to wake it."""

    __slots__ = ("attached", "ending", "index", "last", "sink", "waiting")

    def __init__(self, last: EntryId) -> None:
        self.last = last
        """Id of the last entry it has been given."""
        self.attached = False
        """True: all after `last` is in the ring or to come; `index` is its next frame."""
        self.index = 0
        self.ending: Ending | None = None
        self.waiting: asyncio.Future[None] | None = None
        self.sink: Sink | None = None

    def wake(self) -> None:
        """End the follower's wait, if it waits."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    def end(self, ending: Ending) -> None:
        """Tell the follower that it is over; the first reason counts."""
        if self.ending is None:
            self.ending = ending
            self.wake()


class Topic:
    """The ring of one thread."""

    def __init__(self, thread_id: ThreadId, channel: str, *, max_lag_bytes: int) -> None:
        self.thread_id = thread_id
        self.channel = channel
        self.places: set[Place] = set()
        self.floor: EntryId | None = None
        """Every entry after it is in the ring or to come. None: not known yet."""
        self.ending: Ending | None = None
        self.in_step = False
        """True: subscribed, and the ring reaches the stream's end."""
        self.epoch = 0
        """Which subscription this is; 0: none was confirmed yet."""
        self.ready = asyncio.Event()
        """Set once the floor is known, or following is over."""
        self._held: list[bytes] = []
        self._held_too_much = False
        self._max_lag_bytes = max_lag_bytes
        self._frames: list[bytes] = []
        self._first = 0
        self._bytes = 0
        self._trim_at = 2 * _KEEP_BYTES
        self._last = b""
        self._shared: tuple[int, Batch] | None = None

    @property
    def last(self) -> EntryId:
        """Return the id of the newest entry known here."""
        return EntryId(self._last.decode())

    def begin(self, floor: EntryId) -> None:
        """Say that everything after `floor` will be pushed."""
        self.floor = floor
        self._last = floor.encode()
        self.ready.set()

    def out_of_step(self) -> int:
        """Say that something may be missed until `catch_up` has succeeded; return the epoch."""
        self.in_step = False
        self.epoch += 1
        self._held = []
        return self.epoch

    def hear(self, frames: Sequence[bytes]) -> None:
        """Take what was published just now; it is held until the topic is in step."""
        if self.in_step:
            self.push(frames)
        elif len(self._held) + len(frames) > _MAX_HELD_FRAMES:
            self._held = []
            self._held_too_much = True
        else:
            self._held += frames

    def catch_up(self) -> None:
        """Go live, now that all that stood on the stream is pushed; or not: read on."""
        if self._held_too_much:
            self._held_too_much = False
            return
        self.in_step = True
        self.push(self._held)
        self._held = []

    def push(self, frames: Sequence[bytes]) -> None:
        """Add frames in order and wake the followers; what is known already is dropped."""
        if self._bytes > self._trim_at:
            # Before adding: who had read everything must not fall behind by one large push.
            self._trim()
        for frame in frames:
            entry_id = id_of(frame)
            if entry_id > self._last:
                self._frames.append(frame)
                self._bytes += len(frame)
                self._last = entry_id
        for place in self.places:
            if place.waiting is not None and not self._pour(place):
                place.wake()

    def end(self, ending: Ending) -> None:
        """Tell all followers that it is over, after what they have not read yet."""
        if self.ending is None:
            self.ending = ending
            self.ready.set()
            for place in self.places:
                place.end(ending)

    def attach(self, place: Place, *, read_to_end_since: EntryId | None = None) -> bool:
        """Let a follower read from the ring, if what it lacks is there; False if it is not.

        Args: read_to_end_since: the floor when the follower began a read that reached the end.
            What was appended later lies above it; so if the floor has not moved, it is here.
        """
        if self.floor is None:
            return False
        if place.last < self.floor and read_to_end_since != self.floor:
            return False
        position = bisect.bisect_right(self._frames, place.last.encode(), key=id_of)
        place.index = self._first + position
        place.attached = True
        return True

    def take(self, place: Place) -> Batch | None:
        """Return what an attached follower has not read yet, and move it forward."""
        start = place.index
        end = self._first + len(self._frames)
        if start >= end:
            return None
        batch = self._batch(start)
        place.index = end
        if id_of(batch.frames[0]) <= place.last.encode():
            return self._rest(place, batch)
        place.last = batch.last_id
        return batch

    def _pour(self, place: Place) -> bool:
        """Give a waiting follower's sink what is new; False if the follower must take it."""
        if place.sink is None or place.ending is not None:
            return False
        before = place.index, place.last
        batch = self.take(place)
        if batch is None or place.sink(batch):
            return True
        place.index, place.last = before
        return False

    def _batch(self, start: int) -> Batch:
        shared = self._shared
        end = self._first + len(self._frames)
        if shared is None or shared[0] != start or start + len(shared[1].frames) != end:
            frames = self._frames[start - self._first :]
            shared = (start, Batch(frames, last_id=self.last, up_to_date=True))
            self._shared = shared
        return shared[1]

    @staticmethod
    def _rest(place: Place, batch: Batch) -> Batch | None:
        """Drop what a follower has: it read ahead of a ring that was out of step."""
        known = bisect.bisect_right(batch.frames, place.last.encode(), key=id_of)
        if known == len(batch.frames):
            return None
        place.last = batch.last_id
        return Batch(batch.frames[known:], last_id=batch.last_id, up_to_date=True)

    def _trim(self) -> None:
        """Drop what everybody has read and cut off who would make us keep too much."""
        end = self._first + len(self._frames)
        slowest = min((place.index for place in self.places if place.attached), default=end)
        kept, drop = self._bytes, 0
        while kept > _KEEP_BYTES and (
            self._first + drop < slowest or kept > self._max_lag_bytes
        ):
            kept -= len(self._frames[drop])
            drop += 1
        if drop:
            self.floor = EntryId(id_of(self._frames[drop - 1]).decode())
            del self._frames[:drop]
            self._first += drop
            self._bytes = kept
        self._trim_at = min(kept + _KEEP_BYTES, max(self._max_lag_bytes, 2 * _KEEP_BYTES))
        for place in self.places:
            if place.attached and place.index < self._first:
                place.end(Ending.LAGGING)
