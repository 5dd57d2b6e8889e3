"""Bring rows up to their streams: read the states, decide, write guarded.

Promise: a row never goes back in time (`WHERE stream_id < :new`); anybody may project at any
moment, any number of times, and overtake each other. A thread stays dirty until what its end
means for others is owed too: its parent hears what became of a task, and the tasks of a turn
that ended are cancelled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from dispatch.ids import ThreadId, milliseconds_of
from dispatch.models import delegations as tasks
from dispatch.models import state as states
from dispatch.models import status
from dispatch.models.delegations import Task
from dispatch.models.state import ThreadState
from dispatch.models.threads import Projection
from dispatch.stores.postgres import delegations, engine, threads
from dispatch.streams import entries, lanes
from dispatch.streams.connection import Connection
from dispatch.streams.scripts import Scripts


async def project(
    scripts: Scripts,
    connection: Connection,
    projector: engine.Engine,
    thread_ids: Sequence[ThreadId],
    tell_parents: Callable[[Sequence[Task]], Awaitable[None]] | None = None,
) -> list[ThreadState]:
    """Write status, usage and watermark of some threads in one statement; return their states.

    A thread without stream or without row is left alone.
    Args: tell_parents: without it threads that are tasks stay dirty, for others to tell.
    Raises: Unavailable.
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
    ended = {
        thread_id: state
        for thread_id, state, dirty in zip(thread_ids, read, is_dirty, strict=True)
        if dirty
    }
    edges: tuple[Task, ...] = ()
    if projections:
        async with engine.as_worker(projector) as rows:
            await threads.project(rows, projections=projections)
            if ended:
                edges = await _cancel_tasks(rows, ended)
    told = [each for each in edges if each.thread_id in ended]
    if told and tell_parents is not None:
        await tell_parents(told)
    left = {each.thread_id for each in told} if tell_parents is None else frozenset[ThreadId]()
    await asyncio.gather(
        *(
            lanes.projected(scripts, thread_id, state.mark)
            for thread_id, state in ended.items()
            if thread_id not in left
        )
    )
    return read


async def _cancel_tasks(
    rows: engine.Connection, ended: Mapping[ThreadId, ThreadState]
) -> tuple[Task, ...]:
    """Owe the end of tasks whose turn has ended; return them all, and which of these are."""
    edges = await delegations.list_edges(rows, thread_ids=list(ended))
    unwanted = [
        tasks.cancellation(each.thread_id, each.house_id, before_ms=milliseconds_of(state.mark))
        for each in edges
        if (state := ended.get(each.parent_thread_id)) is not None
        and state.is_open
        and each.parent_dispatch_id not in state.dispatches
    ]
    await delegations.cancel(rows, asked=unwanted)
    return edges
