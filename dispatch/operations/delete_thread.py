"""Delete a thread and all below it: rows, then streams. Converges from any half-way point.

One transaction removes the rows and notes each in `deletions`; then each stream gives way to a
tombstone, so a run under way hears GONE at its next word; then the note is marked done.
Whatever dies in between, a repeat or the prune sweep goes on where it ended.
"""

from dispatch.ids import ThreadId
from dispatch.models.houses import Caller
from dispatch.models.threads import Deletion
from dispatch.operations.record import Record
from dispatch.stores.postgres import deletions, engine, threads
from dispatch.streams import threads as streams


async def delete_thread(record: Record, who: Caller, thread_id: ThreadId) -> int:
    """Delete a thread and its children; return how many streams went now.

    Promise: when this returns no key of them is left in Redis but tombstones that expire. It
    pays all that the house owes, so a repeat also finishes what a delete that died left behind.
    Raises: NotFound, Conflict (`primary_thread`), Unavailable (repeat the call).
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        await threads.delete_tree(connection, thread_id=thread_id)
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
    """Remove the stream of a thread whose row is gone, and note that. Repeatable."""
    await streams.delete(
        record.scripts, thread_id, tombstone_seconds=record.settings.tombstone_seconds
    )
    async with engine.as_worker(record.projector) as connection:
        await deletions.mark_done(connection, thread_id=thread_id)
