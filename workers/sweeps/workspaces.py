"""Remove what is over of what this machine has: workspaces and containers.

Every worker process looks at its own disk and engine, so this is no task of the timetable. A
workspace or container goes only on proof: the note that a delete leaves in Postgres, or a row
that says `dead` or `released`. A row that is merely not there proves nothing (a restored
backup, another system's folder), so what it names stays.

Not guaranteed: workspaces on a machine that was away until the note was forgotten
(`tombstone_seconds` after the delete); they stay too.
"""

import uuid
from collections.abc import Sequence

from dispatch import log
from dispatch.errors import Unavailable
from dispatch.ids import ThreadId
from dispatch.operations.record import Record
from dispatch.stores.postgres import deletions, engine, sandboxes
from workers.heartbeat import Heartbeats
from workers.sandboxes import Provider, providers
from workers.sweeps import Counts

_log = log.get(__name__)


async def sweep(record: Record, heartbeats: Heartbeats) -> Counts:
    """Go once through all that this machine has.

    Raises: Unavailable; nothing is removed without Postgres's word.
    """
    counts = Counts()
    for provider in providers.present(record.settings):
        counts += await _release(record, heartbeats, provider, await provider.list())
    return counts


async def release(
    record: Record, heartbeats: Heartbeats, thread_ids: Sequence[uuid.UUID]
) -> Counts:
    """Remove the workspaces of those threads that were deleted, once no run is in this process.

    Raises: Unavailable.
    """
    return await _release(
        record, heartbeats, providers.make("local", record.settings), thread_ids
    )


async def _release(
    record: Record, heartbeats: Heartbeats, provider: Provider, found: Sequence[uuid.UUID]
) -> Counts:
    counts = Counts()
    size = record.settings.sweep_batch
    for start in range(0, len(found), size):
        for each in await _list_over(record, heartbeats, found[start : start + size]):
            try:
                is_gone = await provider.release(each)
            except Unavailable as error:
                _log.warning("sandbox.not_removed", id=str(each), cause=str(error))
                is_gone = False
            counts["released" if is_gone else "kept"] += 1
            _log.info("workspace.released", id=str(each), is_gone=is_gone)
    return counts


async def _list_over(
    record: Record, heartbeats: Heartbeats, page: Sequence[uuid.UUID]
) -> frozenset[uuid.UUID]:
    async with engine.as_worker(record.projector) as connection:
        deleted = await deletions.list_noted(
            connection, thread_ids=[ThreadId(each) for each in page]
        )
        over = await sandboxes.list_over(connection, sandbox_ids=page)
    return frozenset(deleted.difference(heartbeats.busy_threads)) | over
