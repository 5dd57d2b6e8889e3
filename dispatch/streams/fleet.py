"""What all houses share, as numbers and ids: the worker processes.

Read only. Not guaranteed: one moment for all that is read; each number is true by itself.
"""

import asyncio
from typing import Any, Final

from dispatch.ids import WorkerId
from dispatch.models.diagnosis import Worker
from dispatch.streams import keys
from dispatch.streams.connection import Connection

_MAX_WORKERS: Final = 200
"""Worker processes named in one answer, those that beat last."""


async def list_workers(connection: Connection) -> list[Worker]:
    """Return the worker processes that are known, living or dead, the newest beat first."""
    found = await connection.call("ZREVRANGE", keys.WORKERS, 0, _MAX_WORKERS - 1, "WITHSCORES")
    beats = [(WorkerId(name.decode()), int(float(score))) for name, score in _pairs(found)]
    counts = await asyncio.gather(
        *(connection.call("SCARD", keys.runs(worker_id)) for worker_id, _ in beats)
    )
    return [
        Worker(worker_id, beat_ms, int(count))
        for (worker_id, beat_ms), count in zip(beats, counts, strict=True)
    ]


def _pairs(found: Any) -> list[tuple[bytes, float]]:
    return [(name, score) for name, score in found]
