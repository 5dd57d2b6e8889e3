"""How a thread stands in its life, and what is in it."""

import asyncio

import msgspec

from dispatch.errors import Unavailable
from dispatch.ids import ThreadId
from dispatch.models import lifecycle, stats
from dispatch.models import state as states
from dispatch.models.houses import Caller
from dispatch.models.lifecycle import LifecycleState
from dispatch.models.state import ThreadState
from dispatch.models.stats import Counts, LastRun
from dispatch.models.threads import Thread
from dispatch.operations import threads
from dispatch.operations.record import Record
from dispatch.streams import entries


class ThreadView(msgspec.Struct, frozen=True, kw_only=True):
    """A row, and the state of the thread behind it."""

    row: Thread
    state: LifecycleState


class ThreadStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a thread holds, counted now."""

    row: Thread
    state: LifecycleState
    has_active_run: bool
    counts: Counts
    last_status: str | None = None
    """How the last run stands, in the words of a dispatch; None: there was none."""


async def view(record: Record, who: Caller, thread_id: ThreadId) -> ThreadView:
    """Return a thread with its state, after repairing what stood still in it.

    Promise: while Redis is away the row is served, and its word decides the state.
    Raises: NotFound, Gone.
    """
    row = await threads.get(record, who, thread_id)
    try:
        found = await _state(record, thread_id)
    except Unavailable:
        found = ThreadState()
    return ThreadView(row=row, state=lifecycle.lifecycle_state(found, row.status))


async def read(record: Record, who: Caller, thread_id: ThreadId) -> ThreadStats:
    """Count a thread's messages and runs, and tell how the last run stands.

    Promise: one pass over the stream, `read_chunk_entries` in memory at a time; ids, usage and
    state are not counted but known. Not guaranteed: that counts and state are of one moment.
    Raises: NotFound, Gone, Unavailable.
    """
    row = await threads.get(record, who, thread_id)
    counts, found = await asyncio.gather(_count(record, thread_id), _state(record, thread_id))
    return ThreadStats(
        row=row,
        state=lifecycle.lifecycle_state(found, row.status),
        has_active_run=lifecycle.has_active_run(found),
        counts=counts,
        last_status=None if counts.last_run is None else _status(found, counts.last_run),
    )


async def _count(record: Record, thread_id: ThreadId) -> Counts:
    counts, size = Counts(), record.settings.read_chunk_entries
    async for page in record.entries.pages(thread_id, size=size):
        counts = stats.count(page, counts)
    return counts


async def _state(record: Record, thread_id: ThreadId) -> ThreadState:
    return states.from_fields(await entries.state_fields(record.connection, thread_id))


def _status(found: ThreadState, last: LastRun) -> str:
    """Return a dispatch's word; `cancelling` for one that was asked to end."""
    dispatch = found.dispatches.get(last.dispatch_id)
    if dispatch is None:
        return last.end or "queued"
    run = found.lanes[dispatch.lane].run
    if run is not None and run.dispatch_id == last.dispatch_id:
        if run.cancel_deadline_ms is not None:
            return "cancelling"
        return "waiting" if dispatch.asks else "running"
    return "waiting" if dispatch.asks else "queued"
