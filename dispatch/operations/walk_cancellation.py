"""Work off a cancel that reaches many dispatches: page by page, by whoever holds its row.

Each page is ended on the streams first and written down then, so a holder that dies repeats one
page at most; ending twice changes nothing. What works for a dispatch that is still ending is
walked again and again, since that dispatch may still wake it; the walk that begins after its
end is the last.

Not guaranteed: counts of a page whose holder died; a thread whose stream is lost has no work.
"""

import asyncio
from typing import Final

import msgspec

from dispatch import clock
from dispatch.errors import Gone, NotFound
from dispatch.ids import DispatchId, ThreadId
from dispatch.models import cancellations as decisions
from dispatch.models import state as states
from dispatch.models.cancellations import Below, Cancellation
from dispatch.models.state import ThreadState
from dispatch.operations import project
from dispatch.operations.record import Record
from dispatch.stores.postgres import cancellations, engine
from dispatch.streams import entries, lanes
from dispatch.streams import threads as streams

HOLD_SECONDS: Final = 15.0
"""Longer than a page takes while both servers answer; a dead holder's rest waits this long."""


class _Seen(msgspec.Struct):
    """What a walk found and did in one thread."""

    thread_id: ThreadId
    cancelled: int = 0
    requested: int = 0
    ending: list[DispatchId] = []
    """They run, were asked to end, and may still wake what works for them."""


async def work(record: Record, held: Cancellation, *, seconds: float) -> Cancellation:
    """Go on with what the caller holds, for that long; let go of it then.

    Returns: how it stands; not done, if time was over, if a dispatch is still ending, or if
    somebody else has it by now.
    Raises: Unavailable; it stays owed, and is due when the hold is over.
    """
    until = clock.monotonic_seconds() + seconds
    while (now := await step(record, held)) is not None:
        held = now
        if held.done_at is not None or held.after_thread_id is None:
            return held
        if clock.monotonic_seconds() >= until:
            async with engine.as_worker(record.projector) as connection:
                free = await cancellations.update(
                    connection, held=held, now=held, hold_seconds=0
                )
            return free or held
    return held


async def step(record: Record, held: Cancellation) -> Cancellation | None:
    """End what is meant in the next page of threads, and write down how far this came.

    Promise: at the end of a walk it is let go of; at the end of the last it is done.
    Returns: None, if somebody else holds it by now.
    """
    now_ms = await lanes.now_ms(record.connection)
    walk = await _begin(record, held, now_ms) if held.after_thread_id is None else held
    limit = record.settings.sweep_batch
    async with engine.as_worker(record.projector) as connection:
        page = await cancellations.list_reached(connection, cancellation=walk, limit=limit)
    seen = await asyncio.gather(*(_end(record, walk, each, now_ms) for each in page))
    await project.project_many(record, [each.thread_id for each in seen if each.cancelled])
    is_over = len(page) < limit
    async with engine.as_worker(record.projector) as connection:
        if walk.is_last_walk and walk.cascade:
            ending = [(each.thread_id, one) for each in seen for one in each.ending]
            await cancellations.insert_for(connection, asked=_below(walk), dispatches=ending)
        return await cancellations.update(
            connection,
            held=held,
            now=_counted(walk, seen, after=None if is_over else page[-1]),
            hold_seconds=0 if is_over else HOLD_SECONDS,
            is_done=is_over and walk.is_last_walk,
        )


async def _begin(record: Record, held: Cancellation, now_ms: int) -> Cancellation:
    """Begin a walk: it is the last if the dispatch whose work is meant has ended before."""
    if held.is_last_walk or held.thread_id is None:
        return held
    state = await _state(record, held.thread_id)
    if held.dispatch_id in state.dispatches:
        return held
    return msgspec.structs.replace(held, is_last_walk=True, before_ms=now_ms)


async def _end(record: Record, walk: Cancellation, thread_id: ThreadId, now_ms: int) -> _Seen:
    seen = _Seen(thread_id)
    state = await _state(record, thread_id)
    for dispatch_id in decisions.in_order(state):
        if not walk.means(dispatch_id, now_ms=now_ms):
            continue
        if decisions.is_asked(state, dispatch_id):
            seen.ending.append(dispatch_id)
            continue
        try:
            answer = await streams.cancel(
                record.scripts,
                thread_id,
                dispatch_id,
                by=walk.by,
                message=walk.message,
                grace_seconds=record.settings.cancel_grace_seconds,
                reason=walk.reason_in(thread_id),
            )
        except (Gone, NotFound):
            break  # deleted meanwhile, and its work with it
        if answer == "cancelled":
            seen.cancelled += 1
        elif answer == "requested":
            seen.requested += 1
            seen.ending.append(dispatch_id)
    return seen


def _below(walk: Cancellation) -> Below:
    """Ask the same of what works for a dispatch that is ending because of this."""
    return Below(
        house_id=walk.house_id,
        by=walk.by,
        message=walk.message,
        before_ms=walk.before_ms,
        is_last_walk=False,
    )


def _counted(walk: Cancellation, seen: list[_Seen], *, after: ThreadId | None) -> Cancellation:
    return msgspec.structs.replace(
        walk,
        after_thread_id=after,
        thread_count=walk.thread_count + sum(bool(s.cancelled or s.requested) for s in seen),
        cancelled_count=walk.cancelled_count + sum(each.cancelled for each in seen),
        requested_count=walk.requested_count + sum(each.requested for each in seen),
    )


async def _state(record: Record, thread_id: ThreadId) -> ThreadState:
    return states.from_fields(await entries.state_fields(record.connection, thread_id))
