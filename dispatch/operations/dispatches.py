"""One dispatch: how it stands, and asking it to end.

A dispatch that is queued or running stands in the thread's state; one that ended is found by
its terminal on the stream.
"""

import msgspec

from dispatch import payloads
from dispatch.errors import NotFound
from dispatch.ids import DISPATCH_ID, DispatchId, EntryId, ThreadId, entry_of
from dispatch.models import state as states
from dispatch.models.houses import Caller
from dispatch.models.state import ThreadState
from dispatch.operations import authorize, project
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import Cancelled, Completed, Failed, Queued, Started
from dispatch.streams import entries
from dispatch.streams import threads as streams


class DispatchView(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How a dispatch stands."""

    id: DispatchId
    thread_id: ThreadId
    agent_id: str
    status: str
    """queued, running, completed, failed or cancelled."""
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
        return _open_view(state, thread_id, dispatch_id)
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
        status="running" if run else "queued",
        attempt=dispatch.attempt,
        max_attempts=dispatch.policy.max_attempts,
        queue_position=None if run else lane.queue.index(dispatch_id),
        run_id=run.run_id if run else None,
        worker_id=run.worker_id if run else None,
        cancel_deadline_ms=run.cancel_deadline_ms if run else None,
    )


async def _ended_view(
    record: Record, thread_id: ThreadId, dispatch_id: DispatchId
) -> DispatchView:
    """Find the terminal by walking on from the entry the dispatch was born from."""
    after, agent_id, attempt = entry_of(dispatch_id), "", 0
    while page := await entries.page(
        record.connection, thread_id, after=after, limit=record.settings.read_chunk_entries
    ):
        for entry in page:
            if entry.seq is None or dispatch_id.encode() not in entry.raw:
                continue
            payload = entry.payload
            if isinstance(payload, Queued) and payload.dispatch_id == dispatch_id:
                agent_id = payload.agent_id
            elif isinstance(payload, Started):
                attempt = payload.attempt
            elif isinstance(payload, Completed | Failed | Cancelled):
                return DispatchView(
                    id=dispatch_id,
                    thread_id=thread_id,
                    agent_id=agent_id,
                    status=payloads.type_of(payload).rpartition(".")[2],
                    attempt=attempt,
                    run_id=payload.run_id,
                    reason=None if isinstance(payload, Completed) else payload.reason,
                    message=None if isinstance(payload, Completed) else payload.message,
                    terminal_id=entry.id,
                )
        after = page[-1].id
    raise _unknown(dispatch_id)


def _unknown(dispatch_id: str) -> NotFound:
    return NotFound(
        "dispatch",
        dispatch_id,
        next_step="Its id stands in the POST's answer and in `signal.dispatch.queued`.",
    )
