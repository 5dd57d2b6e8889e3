"""When which worker process beat, as the record's own index said at each look."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from dispatch.errors import Unavailable
from dispatch.streams import keys
from dispatch.streams.connection import Connection

_LOOK_SECONDS: Final = 0.2
"""Several times per heartbeat; a beat that we miss makes the check weaker, never wrong."""


@dataclass(eq=False)
class BeatWatch:
    """Remembers every beat it saw."""

    url: str
    beats: dict[str, list[int]] = field(default_factory=dict)
    """Worker id → Unix ms of its beats."""
    away: list[tuple[int, int]] = field(default_factory=list)
    """From when to when there was no Redis, in Unix ms."""
    _task: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look_for_ever())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def was_silent(self, worker_id: str, *, at_ms: int, silent_ms: int, slack_ms: int) -> bool:
        """Tell whether the worker may have been found dead and its run ended at this time.

        Args: slack_ms: how long a keeper's finding may have been on its way to Redis.
        """
        beats = self.beats.get(worker_id, [])
        if not beats or beats[0] > at_ms - slack_ms:
            return True
        # Silence while Redis is away counts for nothing, and not on top of what comes after.
        marks = sorted([*beats, *(ms for window in self.away for ms in window), at_ms])
        return any(
            later - earlier >= silent_ms
            for earlier, later in pairwise(marks)
            if later > at_ms - slack_ms
            and earlier < at_ms
            and (earlier, later) not in self.away
        )

    async def _look_for_ever(self) -> None:
        connection = Connection(self.url, timeout_seconds=1.0)
        try:
            while True:
                await self._look(connection)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await connection.close()

    async def _look(self, connection: Connection) -> None:
        try:
            found = await connection.call("ZRANGE", keys.WORKERS, 0, -1, "WITHSCORES")
        except Unavailable:
            return
        for worker, score in found:
            beats = self.beats.setdefault(worker.decode(), [])
            if not beats or beats[-1] != int(score):
                beats.append(int(score))
