"""Release sandboxes that nobody uses. Their files go where they are, by `sweeps.workspaces`."""

from typing import Final

from dispatch import log
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, sandboxes
from workers.sweeps import Counts

_log = log.get(__name__)
_MAX_BATCHES: Final = 50
"""Bounds one pass; what is left is idle in the next."""


async def sweep(record: Record) -> Counts:
    """Mark every sandbox idle for `sandbox_idle_seconds` as released; rows only."""
    counts = Counts()
    settings = record.settings
    for _ in range(_MAX_BATCHES):
        async with engine.as_worker(record.projector) as connection:
            released = await sandboxes.release_idle(
                connection,
                idle_seconds=settings.sandbox_idle_seconds,
                limit=settings.sweep_batch,
            )
        for each in released:
            _log.info("sandbox.released", sandbox_id=str(each), cause="idle")
        counts["released"] += len(released)
        if len(released) < settings.sweep_batch:
            break
    return counts
