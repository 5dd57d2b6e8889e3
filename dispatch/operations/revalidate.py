"""A Redis that forgot: compare a thread's stream with the one witness it cannot take along.

The row remembers how far it saw the stream (a run's `started` stands on it before the run's
agent does anything). Every thread is compared once after each start of Redis, before anything
is written to it; and whenever its stream is missing.

Not guaranteed: that entries which no row ever saw are missed. Those of the last second before a
power loss are, with `appendfsync everysec`; `always` loses none.
"""

from dispatch import log
from dispatch.errors import Gone, NotFound
from dispatch.ids import EntryId, ThreadId
from dispatch.operations import projection
from dispatch.stores.postgres import engine, threads
from dispatch.streams import threads as streams
from dispatch.streams.connection import Connection
from dispatch.streams.scripts import Scripts

_log = log.get(__name__)


async def revalidate(
    scripts: Scripts,
    connection: Connection,
    projector: engine.Engine,
    thread_id: ThreadId,
    *,
    tombstone_seconds: int,
) -> None:
    """Make a thread's stream writable again; tell it, and its row, if it had lost its end.

    Raises: Unavailable; NotFound or Gone, if there is nothing to write to.
    """
    try:
        async with engine.as_worker(projector) as rows:
            row = await threads.get(rows, thread_id=thread_id)
    except Gone:
        # Redis forgot the tombstone.
        await streams.delete(scripts, thread_id, tombstone_seconds=tombstone_seconds)
        raise
    except NotFound:
        witness, was_running = EntryId(""), False
    else:
        witness, was_running = row.stream_id, row.status == "running"
    is_shorter = await streams.revalidate(
        scripts, thread_id, witness=witness, was_running=was_running
    )
    if is_shorter:
        _log.error("stream.rolled_back", thread_id=str(thread_id), witness=witness)
        await projection.project(scripts, connection, projector, [thread_id])
