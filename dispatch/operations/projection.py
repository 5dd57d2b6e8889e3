"""Bring rows up to their streams: read the states, decide, write guarded.

Promise: a row never goes back in time (`WHERE stream_id < :new`); anybody may project at any
moment, any number of times, and overtake each other.
"""

import asyncio
from collections.abc import Sequence

from dispatch.ids import ThreadId
from dispatch.models import state as states
from dispatch.models import status
from dispatch.models.state import ThreadState
from dispatch.models.threads import Projection
from dispatch.stores.postgres import engine, threads
from dispatch.streams import entries, lanes
from dispatch.streams.connection import Connection
from dispatch.streams.scripts import Scripts


async def project(
    scripts: Scripts,
    connection: Connection,
    projector: engine.Engine,
    thread_ids: Sequence[ThreadId],
) -> list[ThreadState]:
    """Write status, usage and watermark of some threads in one statement; return their states.

    A thread without stream or without row is left alone. Raises: Unavailable.
    """
    found, is_dirty = await asyncio.gather(
        asyncio.gather(*(entries.state_fields(connection, each) for each in thread_ids)),
        asyncio.gather(*(lanes.is_dirty(connection, each) for each in thread_ids)),
    )
    read = [states.from_fields(fields) for fields in found]
    projections = [
        Projection(
            thread_id=thread_id,
            chat_status=status.thread_status(state, is_sub_job=False),
            sub_job_status=status.thread_status(state, is_sub_job=True),
            usage=state.usage,
            stream_id=state.mark,
        )
        for thread_id, state in zip(thread_ids, read, strict=True)
        if state.is_open
    ]
    if projections:
        async with engine.as_worker(projector) as rows:
            await threads.project(rows, projections=projections)
    await asyncio.gather(
        *(
            lanes.projected(scripts, thread_id, state.mark)
            for thread_id, state, dirty in zip(thread_ids, read, is_dirty, strict=True)
            if dirty
        )
    )
    return read
