"""A Redis that forgot: compare a thread's stream with the one witness it cannot take along.

The row remembers how far it saw the stream (a run's `started` stands on it before the run's
agent does anything). Every thread is compared once after each start of Redis, before anything
is written to it; and whenever its stream is missing.

The archive is a second witness, and what it holds is not lost with Redis.

Not guaranteed: that entries which no row ever saw are missed. Those of the last second before a
power loss are, with `appendfsync everysec`; `always` loses none.
"""

from collections.abc import Sequence

from dispatch import log
from dispatch.errors import Gone, NotFound
from dispatch.ids import EntryId, ThreadId
from dispatch.models import state as states
from dispatch.models.archives import SegmentRow
from dispatch.operations import projection
from dispatch.operations.archived import ArchivedEntries
from dispatch.stores.postgres import engine, segments, threads
from dispatch.streams import archives, entries, lanes
from dispatch.streams import threads as streams
from dispatch.streams.connection import Connection
from dispatch.streams.scripts import Scripts

_log = log.get(__name__)


async def revalidate(
    scripts: Scripts,
    connection: Connection,
    projector: engine.Engine,
    archived: ArchivedEntries,
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
            last = await segments.find_last(rows, thread_id=thread_id)
    except Gone:
        # Redis forgot the tombstone.
        await streams.delete(scripts, thread_id, tombstone_seconds=tombstone_seconds)
        raise
    except NotFound:
        witness, was_running, last = EntryId(""), False, None
    else:
        witness, was_running = row.stream_id, row.status == "running"
    fields: dict[str, str] = {}
    beyond: Sequence[SegmentRow] = ()
    if last is not None:
        witness = max(witness, last.last_id)
        if await entries.status(connection, thread_id) == "missing":
            fields = await _begin_with(connection, archived, thread_id)
        else:
            beyond = await _list_beyond(connection, projector, thread_id)
    is_shorter = await streams.revalidate(
        scripts, thread_id, witness=witness, was_running=was_running, archived=fields
    )
    if is_shorter:
        await _forget_beyond(connection, projector, thread_id, beyond)
        _log.error("stream.rolled_back", thread_id=str(thread_id), witness=witness)
        await projection.project(scripts, connection, projector, [thread_id])


async def _begin_with(
    connection: Connection, archived: ArchivedEntries, thread_id: ThreadId
) -> dict[str, str]:
    """Return the state hash that the archived entries make.

    The pointer's count is a time: greater than any that Redis may have forgotten.
    Raises: Unavailable, Invalid.
    """
    state, last_id = await archived.fold(thread_id)
    if not state.is_open:
        return {}
    pointer = f"{await lanes.now_ms(connection)},{last_id}"
    return {**states.to_fields(state), "archived": pointer}


async def _list_beyond(
    connection: Connection, projector: engine.Engine, thread_id: ThreadId
) -> Sequence[SegmentRow]:
    """Return the segments by which nothing was trimmed yet, as far as Redis knows now."""
    place = (await archives.pointer(connection, thread_id)).last_id
    async with engine.as_worker(projector) as rows:
        return await segments.list_beyond(rows, thread_id=thread_id, place=place)


async def _forget_beyond(
    connection: Connection,
    projector: engine.Engine,
    thread_id: ThreadId,
    beyond: Sequence[SegmentRow],
) -> None:
    """Remove segments of a time that was lost. Their objects are swept.

    Nobody can trim by them any more: the pointer is another one since the loss was told.
    """
    place = (await archives.pointer(connection, thread_id)).last_id
    async with engine.as_worker(projector) as rows:
        for each in beyond:
            if each.last_id > place:
                await segments.delete(rows, segment_id=each.id)
