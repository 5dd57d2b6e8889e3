"""When which worker process beat, as the record's own index said at each look."""

import asyncio
from bisect import bisect_right
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
        first = bisect_right(beats, at_ms - slack_ms)
        last = bisect_right(beats, at_ms)
        # The beats around the window, with the moment itself as the end of the last silence.
        seen = [*beats[max(first - 1, 0) : last], at_ms]
        if first == 0:
            return True
        return any(later - earlier >= silent_ms for earlier, later in pairwise(seen))

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
