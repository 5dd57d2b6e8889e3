"""End the runs of worker processes that died, without waiting for their leases."""

from dispatch import log
from dispatch.operations.record import Record
from dispatch.streams import lanes
from workers.sweeps import Counts, redeliver

_log = log.get(__name__)


async def sweep(record: Record) -> Counts:
    """Look at every lane a dead worker held; a worker is forgotten when none is left.

    Not guaranteed: a process that was only paused is dead by this measure too. Its runs are
    fenced off, and it hears so at its next word.
    """
    counts = Counts()
    dead = await lanes.list_dead_workers(
        record.connection,
        dead_after_seconds=record.settings.worker_dead_seconds,
        limit=record.settings.sweep_batch,
    )
    for worker_id in dead:
        refs = await lanes.list_runs(record.connection, worker_id)
        found = await redeliver.look_at_all(record, refs)
        counts.update(found)
        if not found["unavailable"]:
            await lanes.forget_worker(record.connection, worker_id, refs)
            _log.info("worker.reaped", worker_id=worker_id, lanes=len(refs))
    return counts
