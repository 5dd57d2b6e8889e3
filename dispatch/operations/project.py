"""Bring a thread's row up to its stream: read the state, decide, write guarded.

Promise: a row never goes back in time (`WHERE stream_id < :new`); anybody may project at any
moment, any number of times, and overtake each other.
"""

from dispatch.errors import Gone, NotFound
from dispatch.ids import ThreadId
from dispatch.models import fold, status
from dispatch.models.fold import ThreadState
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, threads
from dispatch.streams import entries


async def project(record: Record, thread_id: ThreadId) -> ThreadState | None:
    """Write status, usage and watermark of one thread; None if it has no stream (any more).

    Raises: Unavailable.
    """
    fields = await entries.state_fields(record.connection, thread_id)
    if "open" not in fields:
        return None
    state = fold.from_fields(fields)
    async with engine.as_worker(record.projector) as connection:
        try:
            row = await threads.get(connection, thread_id)
        except (NotFound, Gone):
            return None
        if row.stream_id < state.mark:
            await threads.project(
                connection,
                thread_id,
                status=status.thread_status(state, is_sub_job=row.is_sub_job),
                usage=state.usage,
                stream_id=state.mark,
            )
    return state
