"""The fold: what a stream's entries, in order, make of a thread. Pure, total, deterministic.

It is the scripts' counterpart in Python: after every transition the state hash equals
`to_fields(fold(stream))`. An entry of an unknown type counts (sequence, sign of life) and
changes nothing else. Ephemeral entries may be missing: heartbeats but a run's newest, and
chunks before the run's last durable event; the result is the same without them.

Not guaranteed: a fold of a stream that lost durable entries; `seq` tells that it did.
"""

from collections.abc import Iterable
from functools import singledispatch

from msgspec.structs import replace

from dispatch import payloads
from dispatch.errors import Invalid
from dispatch.ids import DispatchId, RunId, WorkerId, milliseconds_of
from dispatch.models import edits
from dispatch.models.edits import FoldEntry
from dispatch.models.state import (
    Dispatch,
    Lane,
    Run,
    Steering,
    ThreadState,
)
from dispatch.payloads.chat import Chat
from dispatch.payloads.content import open_calls
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    Checkpoint,
    Completed,
    Delegated,
    DelegationEnded,
    Failed,
    FellThrough,
    Heartbeat,
    NoProgress,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
    Queued,
    Released,
    Resumed,
    RolledBack,
    RunLost,
    SessionOrphaned,
    Started,
    Steered,
    StreamRollback,
    Waiting,
)


def fold(entries: Iterable[FoldEntry], state: ThreadState | None = None) -> ThreadState:
    """Return the state after these entries, from an empty thread or from `state`."""
    state = state or ThreadState()
    for entry in entries:
        state = step(state, entry)
    return state


def step(state: ThreadState, entry: FoldEntry) -> ThreadState:
    """Return the state after one more entry."""
    if not state.is_open:
        state = replace(state, is_open=True, mark=entry.id)
    if entry.seq is not None:
        state = replace(state, seq=entry.seq)
    try:
        payload = entry.payload
    except Invalid:
        return _written_by_run(state, entry, is_effect=False)
    state = _written_by_run(state, entry, is_effect=payloads.is_effect(payload))
    return _apply(payload, state, entry)


def _written_by_run(state: ThreadState, entry: FoldEntry, *, is_effect: bool) -> ThreadState:
    """Count an event as its run's progress; heartbeats, of number 0, are none."""
    if entry.writer is None or entry.writer.endswith(":0"):
        return state
    run_id, _, n = entry.writer.rpartition(":")
    for lane_id, lane in state.lanes.items():
        run = lane.run
        if run is not None and run.run_id == run_id:
            run = replace(
                run,
                n=int(n) if n.isdecimal() else run.n,
                at_ms=milliseconds_of(entry.id),
                effects=run.effects or is_effect,
            )
            return edits.with_lane(state, lane_id, replace(lane, run=run))
    return state


@singledispatch
def _apply(_payload: object, state: ThreadState, _entry: FoldEntry) -> ThreadState:
    """Return the state unchanged: most entries say something and decide nothing."""
    return state


@_apply.register
def _chat(_payload: Chat, state: ThreadState, entry: FoldEntry) -> ThreadState:
    if entry.writer is not None:
        return state
    return replace(state, mark=entry.id, outcome=None)


@_apply.register
def _queued(payload: Queued, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch_id = DispatchId(payload.dispatch_id)
    lane = state.lanes.get(payload.agent_id, Lane())
    is_head = lane.run is None and (payload.first or not lane.queue)
    queue = (dispatch_id, *lane.queue) if payload.first else (*lane.queue, dispatch_id)
    steer = lane.steer
    if payload.steers is not None:
        steer = (*steer, Steering(dispatch_id, DispatchId(payload.steers)))
    since_ms = milliseconds_of(entry.id) if is_head else lane.since_ms
    lane = replace(lane, queue=queue, since_ms=since_ms, steer=steer)
    dispatch = Dispatch(payload.agent_id, 0, payload.policy)
    return edits.with_dispatch(
        edits.with_lane(replace(state, mark=entry.id), payload.agent_id, lane),
        dispatch_id,
        dispatch,
    )


@_apply.register
def _started(payload: Started, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch_id = DispatchId(payload.dispatch_id)
    state = replace(state, mark=entry.id)
    dispatch = state.dispatches.get(dispatch_id)
    if dispatch is None:
        return state
    run = Run(
        dispatch_id=dispatch_id,
        attempt=payload.attempt,
        run_id=RunId(payload.run_id),
        worker_id=WorkerId(payload.worker_id),
        started_id=entry.id,
        at_ms=milliseconds_of(entry.id),
        lease_ms=payload.lease_ms,
        hard_ms=payload.hard_ms,
    )
    lane = state.lanes[dispatch.lane]
    queue = tuple(waiting for waiting in lane.queue if waiting != dispatch_id)
    lane = replace(lane, queue=queue, since_ms=None, run=run)
    dispatch = replace(dispatch, attempt=payload.attempt, not_before_ms=0)
    return edits.with_dispatch(
        edits.with_lane(state, dispatch.lane, lane), dispatch_id, dispatch
    )


@_apply.register
def _heartbeat(payload: Heartbeat, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return edits.with_run(state, payload.dispatch_id, beat_id=entry.id)


@_apply.register
def _cancel_requested(
    payload: CancelRequested, state: ThreadState, _entry: FoldEntry
) -> ThreadState:
    return edits.with_run(
        state,
        payload.dispatch_id,
        cancel_deadline_ms=payload.deadline,
        cancel_reason=payload.reason,
    )


@_apply.register
def _rolled_back(payload: RolledBack, state: ThreadState, _entry: FoldEntry) -> ThreadState:
    _, lane = edits.lane_running(state, payload.dispatch_id)
    if lane is None or lane.run is None or lane.run.cancel_deadline_ms is None:
        return state
    return edits.with_run(state, payload.dispatch_id, cancel_reason="rolled_back")


@_apply.register
def _no_progress(payload: NoProgress, state: ThreadState, _entry: FoldEntry) -> ThreadState:
    return edits.with_run(state, payload.dispatch_id, warned_ms=payload.since_ms)


@_apply.register
def _checkpoint(payload: Checkpoint, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch = state.dispatches.get(DispatchId(payload.dispatch_id))
    if dispatch is None:
        return state
    dispatch = replace(dispatch, checkpoint_id=entry.id)
    state = edits.with_dispatch(state, DispatchId(payload.dispatch_id), dispatch)
    return edits.with_run(state, payload.dispatch_id, effects=False)


@_apply.register
def _assistant(payload: Assistant, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch_id = edits.writing(state, entry)
    if dispatch_id is None:
        return state
    dispatch = state.dispatches[dispatch_id]
    calls = {call.id: call for call in dispatch.calls}
    for call in open_calls(payload.message):
        calls.setdefault(call.id, call)
    dispatch = replace(dispatch, calls=tuple(calls.values()))
    return edits.with_dispatch(state, dispatch_id, dispatch)


@_apply.register
def _tool_result(payload: ToolResult, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch_id = edits.writing(state, entry) or DispatchId(payload.dispatch_id or "")
    dispatch = state.dispatches.get(dispatch_id)
    if dispatch is None:
        return state
    left = tuple(call for call in dispatch.calls if call.id != payload.tool_call_id)
    answered = tuple(each for each in dispatch.answered if each != payload.tool_call_id)
    dispatch = replace(dispatch, calls=left, answered=answered)
    return edits.with_dispatch(state, dispatch_id, dispatch)


@_apply.register(PermissionRequested | Delegated)
def _asked(
    payload: PermissionRequested | Delegated, state: ThreadState, _entry: FoldEntry
) -> ThreadState:
    return edits.with_ask(state, payload.dispatch_id, edits.ask_of(payload))


@_apply.register(PermissionGranted | PermissionDenied | PermissionExpired)
def _answered(
    payload: PermissionGranted | PermissionDenied | PermissionExpired,
    state: ThreadState,
    _entry: FoldEntry,
) -> ThreadState:
    return edits.without_ask(state, payload.dispatch_id, payload.permission_id)


@_apply.register
def _delegation_ended(
    payload: DelegationEnded, state: ThreadState, _entry: FoldEntry
) -> ThreadState:
    return edits.without_ask(state, payload.dispatch_id, payload.delegation_id)


@_apply.register
def _waiting(payload: Waiting, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch = state.dispatches.get(DispatchId(payload.dispatch_id))
    attempt = dispatch.attempt - 1 if dispatch is not None else 0
    return edits.requeue(
        state, entry, payload.dispatch_id, attempt=attempt, not_before_ms=payload.until
    )


@_apply.register
def _resumed(payload: Resumed, state: ThreadState, entry: FoldEntry) -> ThreadState:
    state = replace(state, mark=entry.id)
    dispatch_id = DispatchId(payload.dispatch_id)
    dispatch = state.dispatches.get(dispatch_id)
    if dispatch is None:
        return state
    state = edits.with_dispatch(state, dispatch_id, replace(dispatch, not_before_ms=0))
    lane = state.lanes[dispatch.lane]
    if lane.run is not None or lane.queue[:1] != (dispatch_id,):
        return state
    return edits.with_lane(
        state, dispatch.lane, replace(lane, since_ms=milliseconds_of(entry.id))
    )


@_apply.register
def _steered(payload: Steered, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatches = dict(state.dispatches)
    taken = dispatches.pop(DispatchId(payload.dispatch_id), None)
    state = replace(state, mark=entry.id, dispatches=dispatches)
    if taken is None:
        return state
    lane = edits.lane_without(state.lanes[taken.lane], DispatchId(payload.dispatch_id), entry)
    return edits.with_lane(state, taken.lane, lane)


@_apply.register
def _fell_through(payload: FellThrough, state: ThreadState, _entry: FoldEntry) -> ThreadState:
    dispatch_id = DispatchId(payload.dispatch_id)
    for lane_id, lane in state.lanes.items():
        if lane.target_of(dispatch_id) is not None:
            return edits.with_lane(state, lane_id, edits.not_steering(lane, dispatch_id))
    return state


@_apply.register
def _released(payload: Released, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch = state.dispatches.get(DispatchId(payload.dispatch_id))
    attempt = dispatch.attempt - 1 if dispatch is not None else 0
    return edits.requeue(state, entry, payload.dispatch_id, attempt=attempt, not_before_ms=0)


@_apply.register
def _run_lost(payload: RunLost, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return edits.requeue(
        state,
        entry,
        payload.dispatch_id,
        attempt=payload.attempt,
        not_before_ms=payload.not_before,
    )


@_apply.register
def _completed(payload: Completed, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return edits.end(
        state, entry, payload.dispatch_id, outcome="completed", usage=payload.usage
    )


@_apply.register
def _failed(payload: Failed, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return edits.end(state, entry, payload.dispatch_id, outcome="failed", usage=payload.usage)


@_apply.register
def _cancelled(payload: Cancelled, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return edits.end(
        state, entry, payload.dispatch_id, outcome="cancelled", usage=payload.usage
    )


@_apply.register
def _stream_rollback(
    payload: StreamRollback, state: ThreadState, entry: FoldEntry
) -> ThreadState:
    outcome = "orphaned" if payload.was_running else state.outcome
    return replace(state, mark=entry.id, outcome=outcome)


@_apply.register
def _orphaned(_payload: SessionOrphaned, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return replace(state, mark=entry.id, outcome="orphaned")
