"""A follower: one reader's way through a thread, first by pages, then live from the ring.

It belongs to one task. A wait costs one future; the timer that bounds waits is armed rarely,
for deadlines mostly move on before they pass.
"""

import asyncio

from dispatch.errors import Gone
from dispatch.ids import EntryId
from dispatch.streams.batches import Batch, Reader
from dispatch.streams.topics import Ending, Place, Sink, Topic


class Follower:
    """Made by `Feed.follow`."""

    def __init__(self, topic: Topic, after: EntryId, *, reader: Reader) -> None:
        self.place = Place(after)
        self._topic = topic
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0

    @property
    def cursor(self) -> EntryId:
        """Return the id of the last entry handed out: resume after it."""
        return self.place.last

    async def next(self, *, until: float) -> Batch | Ending | None:
        """Return the next batch, or why there is none any more; None if the time is over.

        Args: until: the running loop's time; what is there already is returned in any case.
        Raises: Unavailable, if the past cannot be read; NotFound.
        """
        while True:
            if not self.place.attached:
                found = await self._next_page()
                if found is None:
                    continue  # at the ring now, which may hold something; or there is more
            elif self.place.ending in {Ending.LAGGING, Ending.LEFT}:
                found = self.place.ending
            else:
                found = self._topic.take(self.place) or self.place.ending
            if found is not None:
                return found
            if self._loop.time() >= until:
                return None
            await self._wait(until)

    def pour_into(self, sink: Sink) -> None:
        """Give live batches to a sink while `next` waits; what it refuses, `next` returns."""
        self.place.sink = sink

    def end(self, ending: Ending) -> None:
        """Make `next` return this from now on; for a caller that sees its reader hang up."""
        self.place.end(ending)

    def leave(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _next_page(self) -> Batch | Ending | None:
        """Read on, or go over to the ring. None: at the ring, or there is more to read."""
        place, topic = self.place, self._topic
        if place.ending is not None:
            return place.ending
        if topic.attach(place):
            return None
        floor = topic.floor
        try:
            batch = await self._reader.read(topic.thread_id, place.last)
        except Gone:
            return Ending.GONE
        place.last = batch.last_id
        if batch.up_to_date:
            topic.attach(place, read_to_end_since=floor)
        return batch if batch.frames else None

    async def _wait(self, until: float) -> None:
        self._until = until
        if self._timer is None or self._timer.when() > until:
            self._set_timer(until)
        self.place.waiting = self._loop.create_future()
        try:
            await self.place.waiting
        finally:
            self.place.waiting = None

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._on_time)

    def _on_time(self) -> None:
        """Wake the follower if its time is over; else see again when it will be."""
        self._timer = None
        if self.place.waiting is None:
            return
        if self._loop.time() >= self._until:
            self.place.wake()
        else:
            self._set_timer(self._until)
