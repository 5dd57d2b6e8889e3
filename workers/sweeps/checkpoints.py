"""Remove what frameworks keep of threads that were deleted.

A runner whose library keeps state of its own in our database offers `forget` in its module.
Only those that this process has used since it started are asked: no library is imported for it.
Not guaranteed: state of threads whose delete was forgotten (`tombstone_seconds`) before any
worker with that library looked.
"""

from collections.abc import Collection

from dispatch import log
from dispatch.ids import ThreadId
from dispatch.operations.record import Record
from dispatch.stores.postgres import deletions, engine
from workers.agents import registry
from workers.sweeps import Counts

_log = log.get(__name__)


async def sweep(record: Record) -> Counts:
    """Let each runner go once through what it keeps; goes on the note that a delete leaves.

    Raises: Unavailable; what is left is removed by the next pass.
    """

    async def list_deleted(thread_ids: Collection[ThreadId]) -> frozenset[ThreadId]:
        async with engine.as_worker(record.projector) as connection:
            return await deletions.list_noted(connection, thread_ids=thread_ids)

    counts = Counts()
    for forget in registry.forgetting():
        counts["forgotten"] += await forget(list_deleted, record.settings.sweep_batch)
    if counts["forgotten"]:
        _log.info("checkpoints.forgotten", count=counts["forgotten"])
    return counts
