"""Bring a thread's archived entries back into Redis, so that its stream is whole there again.

They are put beside the stream, then a script lets them be the stream, if nothing else moved.
The segments are dropped after a while (`archive_grace_seconds`), by the sweep: should Redis
forget the restore, they still hold.
"""

from typing import Final

from dispatch.errors import Conflict
from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.models import state as states
from dispatch.models.archives import Pointer
from dispatch.models.houses import Caller
from dispatch.operations import authorize
from dispatch.operations.record import Record
from dispatch.stores.postgres import archived_threads, engine, segments
from dispatch.streams import archives, entries

_TRIES: Final = 3
_BATCH: Final = 200
"""Entries of one call: Redis answers nobody else meanwhile."""


async def restore_thread(record: Record, who: Caller, thread_id: ThreadId) -> int:
    """Restore a thread; return how many entries came back.

    Promise: all or nothing; safe when killed. It takes entries again, also after a roll-over.
    Raises: NotFound, Gone, Unavailable; Conflict (`thread_running`, `archive_moved`,
        `stream_full`).
    """
    await authorize.thread(record, who, thread_id, fresh=True)
    await entries.require_open(record.connection, thread_id)
    count = 0
    seen = await archives.pointer(record.connection, thread_id)
    if seen.last_id > BEGINNING:
        count = await _restore(record, thread_id, seen)
    async with engine.as_worker(record.projector) as connection:
        await segments.drop(connection, thread_id=thread_id)
        await archived_threads.set_restored(connection, thread_id=thread_id)
    record.forget()
    return count


async def _restore(record: Record, thread_id: ThreadId, seen: Pointer) -> int:
    fields = await entries.state_fields(record.connection, thread_id)
    if any(lane.run is not None for lane in states.from_fields(fields).lanes.values()):
        raise archives.running(thread_id)
    for _ in range(_TRIES):
        count, last_id = await _refill(record, thread_id, seen)
        word = "behind"
        while word == "behind":
            last_id = await archives.refill(record.scripts, thread_id, seen, after=last_id)
            word = await archives.swap_in(record.scripts, thread_id, seen, archived_count=count)
        if word == "ok":
            return count
    raise archives.overtaken(thread_id)


async def _refill(record: Record, thread_id: ThreadId, seen: Pointer) -> tuple[int, EntryId]:
    """Put the archived entries beside the stream; return how many, and the last."""
    most = record.settings.max_stream_entries
    count, last_id = await archives.count_live(record.connection, thread_id), BEGINNING
    live = count
    while last_id < seen.last_id:
        some = await record.entries.page(thread_id, after=last_id, limit=_BATCH)
        some = [entry for entry in some if entry.id <= seen.last_id]
        count += len(some)
        if not some:
            raise archives.overtaken(thread_id)
        if count > most:
            raise Conflict(
                "stream_full",
                f"Thread {thread_id} has more than {most} entries.",
                next_step="Read it as it is: the archive is read through. Or raise "
                "ARBE_MAX_STREAM_ENTRIES.",
            )
        last_id = await archives.refill(
            record.scripts, thread_id, seen, after=last_id, entries=some
        )
    return count - live, last_id
