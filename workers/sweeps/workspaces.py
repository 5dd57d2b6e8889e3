"""Release what deleted threads left on this machine's disk: their workspace folders.

Every worker process looks at its own disk, so this is no task of the timetable. A folder goes
only on proof: the note that a delete leaves in Postgres. A row that is merely not there proves
nothing (a restored backup, another system's folder), so its workspace stays.

Not guaranteed: workspaces on a machine that was away until the note was forgotten
(`tombstone_seconds` after the delete); they stay too.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from dispatch import log
from dispatch.ids import ThreadId
from dispatch.operations.record import Record
from dispatch.stores.postgres import deletions, engine
from workers.heartbeat import Heartbeats
from workers.sandboxes import workspaces
from workers.sweeps import Counts

_log = log.get(__name__)


async def sweep(record: Record, heartbeats: Heartbeats) -> Counts:
    """Go through all workspaces of this disk once.

    Raises: Unavailable; nothing is removed without Postgres's word.
    """
    found = await asyncio.to_thread(workspaces.list_threads, _root(record))
    return await release(record, heartbeats, found)


async def release(
    record: Record, heartbeats: Heartbeats, thread_ids: Sequence[ThreadId]
) -> Counts:
    """Remove the workspaces of those threads that were deleted, once no run is in this process.

    Raises: Unavailable.
    """
    counts = Counts()
    size = record.settings.sweep_batch
    for start in range(0, len(thread_ids), size):
        async with engine.as_worker(record.projector) as connection:
            deleted = await deletions.list_noted(
                connection, thread_ids=thread_ids[start : start + size]
            )
        for thread_id in deleted.difference(heartbeats.busy_threads):
            is_gone = await workspaces.remove(_root(record), thread_id)
            counts["released" if is_gone else "kept"] += 1
            _log.info("workspace.released", thread_id=str(thread_id), is_gone=is_gone)
    return counts


def _root(record: Record) -> Path:
    return Path(record.settings.workspace_root)
