"""Delete a thread and all below it: the rows, then the streams. Converges from any half-way point.

One transaction removes the rows and notes each in `deletions`; then each stream gives way to a
tombstone, so a run under way hears GONE at its next word; then the note is marked done. Whatever
dies in between, a repeat or the prune sweep goes on where it ended.
"""

from dispatch.ids import ThreadId
from dispatch.models.houses import Caller
from dispatch.operations.record import Record
from dispatch.stores.postgres import deletions, engine, threads
from dispatch.streams import threads as streams


async def delete_thread(record: Record, who: Caller, thread_id: ThreadId) -> int:
    """Delete a thread and its children; return how many streams went now.

    Promise: when this returns no key of them is left in Redis but tombstones that expire, and a
    repeat returns 0.
    Raises: NotFound, Conflict (`primary_thread`), Unavailable (repeat the call).
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        doomed = await threads.delete_tree(connection, thread_id=thread_id)
    record.accesses.forget_all()
    for each in doomed:
        await remove_stream(record, each)
    return len(doomed)


async def remove_stream(record: Record, thread_id: ThreadId) -> None:
    """Remove the stream of a thread whose row is gone, and note that. Repeatable."""
    await streams.delete(
        record.scripts, thread_id, tombstone_seconds=record.settings.tombstone_seconds
    )
    async with engine.as_worker(record.projector) as connection:
        await deletions.mark_done(connection, thread_id=thread_id)
