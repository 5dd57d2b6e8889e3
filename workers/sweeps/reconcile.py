"""Do what dead worker processes left: end their runs, tell their rows, pass answers on.

None of it waits: a dead worker's leases are over at once, and a row whose projector died is
brought up within seconds.
"""

from typing import Final

from dispatch import log
from dispatch.operations import project
from dispatch.operations.record import Record
from dispatch.streams import lanes
from workers.sweeps import Counts, redeliver, replies

_log = log.get(__name__)
_HELD: Final = {"live", "warned", "stopping", "unavailable"}
"""Verdicts after which a lane may still be the worker's."""
_PROJECTOR_SECONDS: Final = 2.0
"""Whoever ended a dispatch projects its thread at once; after this long it will not."""
_MAX_PAGES: Final = 50
"""Bounds one pass; what is left is dirty in the next."""


async def sweep(record: Record) -> Counts:
    """Look at every lane a dead worker held, then at rows and answers nobody took care of.

    A worker is forgotten when none of its lanes is left.

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
        counts.update(each for each in found if each != "live")
        if _HELD.isdisjoint(found):
            await lanes.forget_worker(record.connection, worker_id, refs)
            _log.info("worker.reaped", worker_id=worker_id, lanes=len(refs))
    counts["projected"] = await _project_dirty(record)
    counts.update(await replies.sweep(record))
    return counts


async def _project_dirty(record: Record) -> int:
    count, limit = 0, record.settings.sweep_batch
    for _ in range(_MAX_PAGES):
        page = await lanes.list_dirty(
            record.connection, older_than_seconds=_PROJECTOR_SECONDS, limit=limit
        )
        if page:
            await project.project_many(record, page)
        count += len(page)
        if len(page) < limit:
            break
    return count
