"""Open a thread's stream when its row is there and its stream is not.

A process may die between inserting the row and opening the stream; the next one to write opens
it. A row that remembers a stream (its watermark is set), or an archive of it, proves that the
stream was lost instead: then it goes on with `signal.thread.stream_rollback`.
"""

from dispatch.ids import ThreadId
from dispatch.operations.record import Record
from dispatch.payloads.signals import ThreadCreated
from dispatch.stores.postgres import engine, segments, threads
from dispatch.streams import threads as streams


async def open_stream(record: Record, thread_id: ThreadId) -> None:
    """Make the stream writable, unless it is open already.

    Raises: NotFound or Gone (no row).
    """
    async with engine.as_worker(record.projector) as connection:
        row = await threads.get(connection, thread_id=thread_id)
        last = await segments.find_last(connection, thread_id=thread_id)
    if row.stream_id or last is not None:
        await record.revalidate(thread_id)
    else:
        await streams.create(record.scripts, thread_id, ThreadCreated(name=row.name))
