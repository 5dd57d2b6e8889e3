"""The fold: what a stream's entries, in order, make of a thread. Pure, total, deterministic.

It is the scripts' counterpart in Python: after every transition the state hash equals
`to_fields(fold(stream))`. An entry of an unknown type counts (sequence, sign of life) and
changes nothing else. Ephemeral entries may be missing: heartbeats but a run's newest, and
chunks before the run's last durable event; the result is the same without them.

Not guaranteed: a fold of a stream that lost durable entries; `seq` tells that it did.
"""

from collections.abc import Iterable
from functools import singledispatch
from typing import Protocol

from msgspec.structs import replace

from dispatch import payloads
from dispatch.errors import Invalid
from dispatch.ids import DispatchId, EntryId, RunId, WorkerId, milliseconds_of
from dispatch.models.state import (
    Ask,
    Dispatch,
    Ended,
    Lane,
    Outcome,
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
from dispatch.payloads.usage import TokenUsage


class FoldEntry(Protocol):
    """What the fold needs of an entry; `streams.entries.Entry` has it."""

    @property
    def id(self) -> EntryId:
        """Its place on the stream."""
        ...

    @property
    def seq(self) -> int | None:
        """Its sequence if it is durable."""
        ...

    @property
    def writer(self) -> str | None:
        """`<run id>:<n>` if a run wrote it; n is 0 for heartbeats."""
        ...

    @property
    def payload(self) -> payloads.Payload:
        """What it says; raises Invalid if that cannot be read."""
        ...


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
            return _with_lane(state, lane_id, replace(lane, run=run))
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
    return _with_dispatch(
        _with_lane(replace(state, mark=entry.id), payload.agent_id, lane), dispatch_id, dispatch
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
    return _with_dispatch(_with_lane(state, dispatch.lane, lane), dispatch_id, dispatch)


@_apply.register
def _heartbeat(payload: Heartbeat, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return _with_run(state, payload.dispatch_id, beat_id=entry.id)


@_apply.register
def _cancel_requested(
    payload: CancelRequested, state: ThreadState, _entry: FoldEntry
) -> ThreadState:
    return _with_run(
        state,
        payload.dispatch_id,
        cancel_deadline_ms=payload.deadline,
        cancel_reason=payload.reason,
    )


@_apply.register
def _rolled_back(payload: RolledBack, state: ThreadState, _entry: FoldEntry) -> ThreadState:
    _, lane = _lane_running(state, payload.dispatch_id)
    if lane is None or lane.run is None or lane.run.cancel_deadline_ms is None:
        return state
    return _with_run(state, payload.dispatch_id, cancel_reason="rolled_back")


@_apply.register
def _no_progress(payload: NoProgress, state: ThreadState, _entry: FoldEntry) -> ThreadState:
    return _with_run(state, payload.dispatch_id, warned_ms=payload.since_ms)


@_apply.register
def _checkpoint(payload: Checkpoint, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch = state.dispatches.get(DispatchId(payload.dispatch_id))
    if dispatch is None:
        return state
    dispatch = replace(dispatch, checkpoint_id=entry.id)
    state = _with_dispatch(state, DispatchId(payload.dispatch_id), dispatch)
    return _with_run(state, payload.dispatch_id, effects=False)


@_apply.register
def _assistant(payload: Assistant, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch_id = _writing(state, entry)
    if dispatch_id is None:
        return state
    dispatch = state.dispatches[dispatch_id]
    calls = {call.id: call for call in dispatch.calls}
    for call in open_calls(payload.message):
        calls.setdefault(call.id, call)
    dispatch = replace(dispatch, calls=tuple(calls.values()))
    return _with_dispatch(state, dispatch_id, dispatch)


@_apply.register
def _tool_result(payload: ToolResult, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch_id = _writing(state, entry) or DispatchId(payload.dispatch_id or "")
    dispatch = state.dispatches.get(dispatch_id)
    if dispatch is None:
        return state
    left = tuple(call for call in dispatch.calls if call.id != payload.tool_call_id)
    return _with_dispatch(state, dispatch_id, replace(dispatch, calls=left))


@_apply.register
def _asked(payload: PermissionRequested, state: ThreadState, _entry: FoldEntry) -> ThreadState:
    dispatch_id = DispatchId(payload.dispatch_id)
    dispatch = state.dispatches.get(dispatch_id)
    if dispatch is None:
        return state
    ask = Ask(
        payload.permission_id,
        payload.kind,
        payload.deadline,
        payload.default,
        payload.tool_call_id,
    )
    return _with_dispatch(state, dispatch_id, replace(dispatch, asks=(*dispatch.asks, ask)))


@_apply.register(PermissionGranted | PermissionDenied | PermissionExpired)
def _answered(
    payload: PermissionGranted | PermissionDenied | PermissionExpired,
    state: ThreadState,
    _entry: FoldEntry,
) -> ThreadState:
    dispatch_id = DispatchId(payload.dispatch_id)
    dispatch = state.dispatches.get(dispatch_id)
    if dispatch is None:
        return state
    left = tuple(ask for ask in dispatch.asks if ask.id != payload.permission_id)
    return _with_dispatch(state, dispatch_id, replace(dispatch, asks=left))


@_apply.register
def _waiting(payload: Waiting, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch = state.dispatches.get(DispatchId(payload.dispatch_id))
    attempt = dispatch.attempt - 1 if dispatch is not None else 0
    return _requeue(
        state, entry, payload.dispatch_id, attempt=attempt, not_before_ms=payload.until
    )


@_apply.register
def _resumed(payload: Resumed, state: ThreadState, entry: FoldEntry) -> ThreadState:
    state = replace(state, mark=entry.id)
    dispatch_id = DispatchId(payload.dispatch_id)
    dispatch = state.dispatches.get(dispatch_id)
    if dispatch is None:
        return state
    state = _with_dispatch(state, dispatch_id, replace(dispatch, not_before_ms=0))
    lane = state.lanes[dispatch.lane]
    if lane.run is not None or lane.queue[:1] != (dispatch_id,):
        return state
    return _with_lane(state, dispatch.lane, replace(lane, since_ms=milliseconds_of(entry.id)))


@_apply.register
def _steered(payload: Steered, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatches = dict(state.dispatches)
    taken = dispatches.pop(DispatchId(payload.dispatch_id), None)
    state = replace(state, mark=entry.id, dispatches=dispatches)
    if taken is None:
        return state
    lane = _lane_without(state.lanes[taken.lane], DispatchId(payload.dispatch_id), entry)
    return _with_lane(state, taken.lane, lane)


@_apply.register
def _fell_through(payload: FellThrough, state: ThreadState, _entry: FoldEntry) -> ThreadState:
    dispatch_id = DispatchId(payload.dispatch_id)
    for lane_id, lane in state.lanes.items():
        if lane.target_of(dispatch_id) is not None:
            return _with_lane(state, lane_id, _not_steering(lane, dispatch_id))
    return state


@_apply.register
def _released(payload: Released, state: ThreadState, entry: FoldEntry) -> ThreadState:
    dispatch = state.dispatches.get(DispatchId(payload.dispatch_id))
    attempt = dispatch.attempt - 1 if dispatch is not None else 0
    return _requeue(state, entry, payload.dispatch_id, attempt=attempt, not_before_ms=0)


@_apply.register
def _run_lost(payload: RunLost, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return _requeue(
        state,
        entry,
        payload.dispatch_id,
        attempt=payload.attempt,
        not_before_ms=payload.not_before,
    )


@_apply.register
def _completed(payload: Completed, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return _end(state, entry, payload.dispatch_id, outcome="completed", usage=payload.usage)


@_apply.register
def _failed(payload: Failed, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return _end(state, entry, payload.dispatch_id, outcome="failed", usage=payload.usage)


@_apply.register
def _cancelled(payload: Cancelled, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return _end(state, entry, payload.dispatch_id, outcome="cancelled", usage=payload.usage)


@_apply.register
def _stream_rollback(
    payload: StreamRollback, state: ThreadState, entry: FoldEntry
) -> ThreadState:
    outcome = "orphaned" if payload.was_running else state.outcome
    return replace(state, mark=entry.id, outcome=outcome)


@_apply.register
def _orphaned(_payload: SessionOrphaned, state: ThreadState, entry: FoldEntry) -> ThreadState:
    return replace(state, mark=entry.id, outcome="orphaned")


def _requeue(
    state: ThreadState,
    entry: FoldEntry,
    dispatch_id: str,
    *,
    attempt: int,
    not_before_ms: int,
) -> ThreadState:
    """Put the lane's running dispatch back to the head of its queue."""
    state = replace(state, mark=entry.id)
    lane_id, lane = _lane_running(state, dispatch_id)
    if lane is None:
        return state
    dispatch = state.dispatches[DispatchId(dispatch_id)]
    dispatch = replace(dispatch, attempt=attempt, not_before_ms=not_before_ms)
    lane = replace(
        lane,
        queue=(DispatchId(dispatch_id), *lane.queue),
        since_ms=milliseconds_of(entry.id),
        run=None,
    )
    return _with_dispatch(_with_lane(state, lane_id, lane), DispatchId(dispatch_id), dispatch)


def _end(
    state: ThreadState,
    entry: FoldEntry,
    dispatch_id: str,
    *,
    outcome: Outcome,
    usage: TokenUsage | None,
) -> ThreadState:
    """Take a dispatch out of its lane for good; the lane's next one waits from now."""
    totals = state.usage.plus(usage) if usage is not None else state.usage
    dispatches = dict(state.dispatches)
    ended = dispatches.pop(DispatchId(dispatch_id), None)
    state = replace(state, mark=entry.id, outcome=outcome, usage=totals, dispatches=dispatches)
    if ended is None:
        return state
    lane = _lane_without(state.lanes[ended.lane], DispatchId(dispatch_id), entry)
    return _with_lane(state, ended.lane, lane)


def _lane_without(lane: Lane, dispatch_id: DispatchId, entry: FoldEntry) -> Lane:
    at_ms = milliseconds_of(entry.id)
    lane = _not_steering(lane, dispatch_id)
    if lane.run is not None and lane.run.dispatch_id == dispatch_id:
        last = Ended(lane.run.fence, entry.id) if entry.writer is not None else lane.last
        return replace(lane, run=None, last=last, since_ms=at_ms if lane.queue else None)
    left = tuple(waiting for waiting in lane.queue if waiting != dispatch_id)
    if not left or lane.run is not None:
        return replace(lane, queue=left, since_ms=None)
    was_first = left[0] != lane.queue[0]
    return replace(lane, queue=left, since_ms=at_ms if was_first else lane.since_ms)


def _not_steering(lane: Lane, dispatch_id: DispatchId) -> Lane:
    """Forget that a dispatch was to steer a turn of the lane."""
    left = tuple(each for each in lane.steer if each.dispatch_id != dispatch_id)
    return replace(lane, steer=left)


def _lane_running(state: ThreadState, dispatch_id: str) -> tuple[str, Lane | None]:
    dispatch = state.dispatches.get(DispatchId(dispatch_id))
    if dispatch is None:
        return "", None
    lane = state.lanes[dispatch.lane]
    if lane.run is None or lane.run.dispatch_id != dispatch_id:
        return dispatch.lane, None
    return dispatch.lane, lane


def _writing(state: ThreadState, entry: FoldEntry) -> DispatchId | None:
    """Return the dispatch whose open run wrote this."""
    run_id = (entry.writer or "").rpartition(":")[0]
    for lane in state.lanes.values():
        if lane.run is not None and lane.run.run_id == run_id:
            return lane.run.dispatch_id
    return None


def _with_run(
    state: ThreadState, dispatch_id: str, **changes: EntryId | int | str
) -> ThreadState:
    lane_id, lane = _lane_running(state, dispatch_id)
    if lane is None or lane.run is None:
        return state
    return _with_lane(state, lane_id, replace(lane, run=replace(lane.run, **changes)))


def _with_lane(state: ThreadState, lane_id: str, lane: Lane) -> ThreadState:
    lanes = {**state.lanes, lane_id: lane}
    if lane == Lane():
        del lanes[lane_id]
    return replace(state, lanes=lanes)


def _with_dispatch(
    state: ThreadState, dispatch_id: DispatchId, dispatch: Dispatch
) -> ThreadState:
    return replace(state, dispatches={**state.dispatches, dispatch_id: dispatch})
