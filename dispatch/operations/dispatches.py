"""One dispatch: how it stands, and asking it to end.

A dispatch that is queued or running stands in the thread's state; one that ended is found by
its end on the stream.
"""

import msgspec
from msgspec.structs import replace

from dispatch import payloads
from dispatch.errors import NotFound
from dispatch.ids import DISPATCH_ID, DispatchId, EntryId, ThreadId
from dispatch.models import state as states
from dispatch.models.houses import Caller
from dispatch.models.state import Dispatch, Run, ThreadState
from dispatch.operations import authorize, project, receipts
from dispatch.operations.receipts import Receipt
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import Cancelled, Failed, Steered
from dispatch.streams import entries
from dispatch.streams import threads as streams


class DispatchView(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How a dispatch stands."""

    id: DispatchId
    thread_id: ThreadId
    agent_id: str
    status: str
    """queued, running, waiting (for somebody's answer), completed, failed, cancelled, or
    steered: taken into another turn."""
    receipt: Receipt
    """How far its entry came."""
    attempt: int
    max_attempts: int | None = None
    queue_position: int | None = None
    """0: next in its lane."""
    run_id: str | None = None
    worker_id: str | None = None
    cancel_deadline_ms: int | None = None
    reason: str | None = None
    message: str | None = None
    terminal_id: EntryId | None = None
    into: str | None = None
    """Steered: the dispatch whose turn took its entry in, …"""
    step: int | None = None
    """… and at which step of it."""


async def get(
    record: Record, who: Caller, thread_id: ThreadId, dispatch_id: DispatchId
) -> DispatchView:
    """Return how a dispatch stands.

    Raises: NotFound, Gone, Unavailable.
    """
    if not DISPATCH_ID.match(dispatch_id):
        raise _unknown(dispatch_id)
    await authorize.thread(record, who, thread_id)
    await entries.require_open(record.connection, thread_id)
    state = states.from_fields(await entries.state_fields(record.connection, thread_id))
    if dispatch_id in state.dispatches:
        view = _open_view(state, thread_id, dispatch_id)
        if view.run_id is not None:
            return view
        story = await receipts.read(record, thread_id, dispatch_id)
        # It may have started or ended between the two looks: the stream is the newer one.
        if story.end_id is None:
            return replace(view, receipt=story.receipt)
    return await _ended_view(record, thread_id, dispatch_id)


async def cancel(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    dispatch_id: DispatchId,
    *,
    message: str | None = None,
) -> str:
    """End a queued dispatch at once; ask a running one to end within the grace.

    Promise: what is answered stands on the stream. Returns: `cancelled`, `requested`, or the
    word it had ended with before.
    Raises: NotFound, Gone, Unavailable.
    """
    if not DISPATCH_ID.match(dispatch_id):
        raise _unknown(dispatch_id)
    await authorize.thread(record, who, thread_id)
    answer = await streams.cancel(
        record.scripts,
        thread_id,
        dispatch_id,
        by=Author("member", str(who.member_id), who.name),
        message=message,
        grace_seconds=record.settings.cancel_grace_seconds,
    )
    if answer == "none":
        return (await _ended_view(record, thread_id, dispatch_id)).status
    if answer == "cancelled":
        await project.project(record, thread_id)
    return answer


def _open_view(
    state: ThreadState, thread_id: ThreadId, dispatch_id: DispatchId
) -> DispatchView:
    dispatch = state.dispatches[dispatch_id]
    lane = state.lanes[dispatch.lane]
    run = lane.run if lane.run and lane.run.dispatch_id == dispatch_id else None
    return DispatchView(
        id=dispatch_id,
        thread_id=thread_id,
        agent_id=dispatch.lane,
        status=_open_word(run, dispatch),
        receipt="delivered" if run else "accepted",
        attempt=dispatch.attempt,
        max_attempts=dispatch.policy.max_attempts,
        queue_position=None if run else lane.queue.index(dispatch_id),
        run_id=run.run_id if run else None,
        worker_id=run.worker_id if run else None,
        cancel_deadline_ms=run.cancel_deadline_ms if run else None,
    )


def _open_word(run: Run | None, dispatch: Dispatch) -> str:
    if dispatch.asks:
        return "waiting"
    return "running" if run else "queued"


async def _ended_view(
    record: Record, thread_id: ThreadId, dispatch_id: DispatchId
) -> DispatchView:
    story = await receipts.read(record, thread_id, dispatch_id)
    if story.end is None:
        raise _unknown(dispatch_id)
    view = DispatchView(
        id=dispatch_id,
        thread_id=thread_id,
        agent_id=story.agent_id,
        status=payloads.type_of(story.end).rpartition(".")[2],
        receipt=story.receipt,
        attempt=story.attempt,
        run_id=story.run_id,
        terminal_id=story.end_id,
    )
    match story.end:
        case Steered(into=into, step=step):
            return replace(view, into=into, step=step)
        case Failed(reason=reason, message=message) | Cancelled(reason=reason, message=message):
            return replace(view, reason=reason, message=message)
        case _:
            return view


def _unknown(dispatch_id: str) -> NotFound:
    return NotFound(
        "dispatch",
        dispatch_id,
        next_step="Its id stands in the POST's answer and in `signal.dispatch.queued`.",
    )
