"""Open a thread's stream when its row is there and its stream is not.

A process may die between inserting the row and opening the stream; the next one to write opens
it. A row that remembers a stream (its watermark is set) proves that the stream was lost
instead: that is told, never papered over.
"""

from dispatch.errors import Conflict
from dispatch.ids import ThreadId
from dispatch.operations.record import Record
from dispatch.payloads.signals import ThreadCreated
from dispatch.stores.postgres import engine, threads
from dispatch.streams import threads as streams


async def open_stream(record: Record, thread_id: ThreadId) -> None:
    """Append `signal.thread.created` unless the stream is open already.

    Raises: NotFound or Gone (no row), Conflict (`stream_lost`).
    """
    async with engine.as_worker(record.projector) as connection:
        row = await threads.get(connection, thread_id=thread_id)
    if row.stream_id:
        raise Conflict(
            "stream_lost",
            f"The stream of thread {thread_id} is missing though it held {row.stream_id}.",
            next_step="Restore Redis from its AOF or a backup; or delete the thread.",
        )
    await streams.create(record.scripts, thread_id, ThreadCreated(name=row.name))
