"""Signs of life of one worker process and of all its runs, from one place.

The beats run on the loop the turns live on: a turn that blocks the loop stops them all, and the
whole process is then reaped, which is right. Concurrent renewals leave as one batch to Redis;
one that hangs (its thread is compared with its row, and Postgres is slow) holds up no other.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from dispatch import clock, log
from dispatch.config import Settings
from dispatch.errors import ArbeError, Unavailable
from dispatch.ids import ThreadId, WorkerId
from dispatch.streams import deafness, lanes
from dispatch.streams.connection import Connection
from workers.outcomes import Interrupted, LeaseLost
from workers.writer import RunWriter

_log = log.get(__name__)
_TICK_SECONDS: Final = 1.0
"""A run is renewed at most this late after `heartbeat_seconds` of silence."""


_DRAIN_TICK_SECONDS: Final = 0.1


class Heartbeats:
    """Keeps a process and its runs alive in the eyes of the record."""

    def __init__(
        self, connection: Connection, *, worker_id: WorkerId, settings: Settings
    ) -> None:
        self.worker_id = worker_id
        self._connection = connection
        self._settings = settings
        self.refused: asyncio.Queue[ThreadId] = asyncio.Queue()
        """Threads whose runs here ended since the record refused them: perhaps deleted."""
        self._writers: set[RunWriter] = set()
        self._renewals: dict[RunWriter, asyncio.Task[None]] = {}
        self._draining = False
        self._is_deaf = False

    @property
    def draining(self) -> bool:
        """Tell whether this process takes no new work."""
        return self._draining or self._is_deaf

    def hold_back(self, *, is_deaf: bool) -> None:
        """Take no new work while this process is deaf; its runs go on and are kept alive."""
        self._is_deaf = is_deaf

    @property
    def run_count(self) -> int:
        """Return how many runs this process holds."""
        return len(self._writers)

    @property
    def busy_threads(self) -> frozenset[ThreadId]:
        """Return the threads that have a run in this process."""
        return frozenset(writer.fence.thread_id for writer in self._writers)

    @contextmanager
    def tracking(self, writer: RunWriter) -> Generator[None]:
        """Renew a run for the length of a block: until its end is recorded."""
        self._writers.add(writer)
        if self._draining:
            # It was being claimed while the drain began.
            writer.stop(Interrupted(why="drain"))
        try:
            yield
        finally:
            self._writers.discard(writer)
            if writer.stopped.done() and isinstance(writer.stopped.result(), LeaseLost):
                self.refused.put_nowait(writer.fence.thread_id)

    async def beat_for_ever(self) -> None:
        """Beat until cancelled; an unreachable Redis is survived."""
        last_beat = -self._settings.heartbeat_seconds
        while True:
            if clock.monotonic_seconds() - last_beat >= self._settings.heartbeat_seconds:
                last_beat = clock.monotonic_seconds()
                await self._beat()
            for writer in self._silent():
                if writer not in self._renewals:
                    self._renewals[writer] = asyncio.create_task(self._renew(writer))
            await asyncio.sleep(_TICK_SECONDS)

    async def drain(self) -> None:
        """Stop taking work; end runs: where nothing would be lost now, else after a while.

        Nothing is lost of a run that showed nothing, or nothing since its checkpoint; the
        others have `drain_seconds`.
        """
        self._draining = True
        deadline = clock.monotonic_seconds() + self._settings.drain_seconds
        while self._writers and clock.monotonic_seconds() < deadline:
            for writer in tuple(self._writers):
                if not writer.has_effects:
                    writer.stop(Interrupted(why="drain"))
            await asyncio.sleep(_DRAIN_TICK_SECONDS)
        for writer in tuple(self._writers):
            writer.stop(Interrupted(why="drain"))
        if self._writers:
            _log.info("worker.drained_by_force", runs=len(self._writers))

    def _silent(self) -> list[RunWriter]:
        return [
            writer
            for writer in self._writers
            if writer.silent_seconds >= self._settings.heartbeat_seconds
            and not writer.stopped.done()
        ]

    async def _beat(self) -> None:
        try:
            await lanes.beat(self._connection, self.worker_id)
            if self._is_deaf:
                seconds = self._settings.worker_dead_seconds
                await deafness.say(self._connection, self.worker_id, for_seconds=seconds)
        except Unavailable as error:
            _log.warning("worker.beat_missed", cause=str(error))

    async def _renew(self, writer: RunWriter) -> None:
        try:
            await writer.renew()
        except ArbeError as error:
            _log.warning(
                "run.renewal_failed", dispatch_id=writer.fence.dispatch_id, cause=error.code
            )
        finally:
            del self._renewals[writer]
