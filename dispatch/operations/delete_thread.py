"""Delete a thread and all below it: rows, then streams. Converges from any half-way point.

One transaction removes the rows and notes each in `deletions`; then each stream gives way to a
tombstone, so a run under way hears GONE at its next word; then the note is marked done.
Whatever dies in between, a repeat or the prune sweep goes on where it ended.
"""

from collections.abc import Collection
from contextlib import suppress

from dispatch import log
from dispatch.errors import ArbeError, Gone
from dispatch.ids import ThreadId
from dispatch.models.houses import Caller
from dispatch.models.threads import Deletion, ThreadStatus
from dispatch.operations import archive_thread, status_guard
from dispatch.operations.record import Record
from dispatch.stores.postgres import deletions, engine, threads
from dispatch.streams import threads as streams

_log = log.get(__name__)


async def delete_thread(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    *,
    if_status: Collection[ThreadStatus] = (),
) -> int:
    """Delete a thread and its children; return how many streams went now.

    Promise: when this returns no key of them is left in Redis but tombstones that expire. It
    pays all that the house owes, so a repeat also finishes what a delete that died left behind.
    Args: if_status: only while the thread itself has one of these statuses, if any.
    Raises: NotFound, Conflict (`primary_thread`, `status_mismatch`), Unavailable (repeat the
        call).
    """
    with suppress(Gone):  # a repeat: it had one of them when it was deleted
        await status_guard.check(record, who, thread_id, if_status)
    async with engine.as_member(record.members, who.member_id) as connection:
        await threads.delete_tree(connection, thread_id=thread_id, if_status=if_status)
    record.forget()
    count = 0
    while page := await _list_owed(record, who):
        for deletion in page:
            await remove_stream(record, deletion.thread_id)
        count += len(page)
    return count


async def _list_owed(record: Record, who: Caller) -> tuple[Deletion, ...]:
    async with engine.as_member(record.members, who.member_id) as connection:
        return await deletions.list_open(connection, limit=record.settings.sweep_batch)


async def remove_stream(record: Record, thread_id: ThreadId) -> None:
    """Remove the stream and archived objects of a thread whose row is gone; note that.

    Promise: repeatable.
    """
    await streams.delete(
        record.scripts, thread_id, tombstone_seconds=record.settings.tombstone_seconds
    )
    try:
        await archive_thread.forget_objects(record, thread_id)
    except ArbeError as error:
        # No row names them any more, so the archive's sweep removes them.
        _log.warning("objects.left", thread_id=str(thread_id), cause=str(error))
    async with engine.as_worker(record.projector) as connection:
        await deletions.mark_done(connection, thread_id=thread_id)
