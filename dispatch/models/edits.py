"""What a transition changes in a thread's state: a run, a lane, a dispatch. Pure.

Each returns the state unchanged where the entry speaks of nothing the state knows.
"""

from typing import Protocol

from msgspec.structs import replace

from dispatch import payloads
from dispatch.ids import DispatchId, EntryId, milliseconds_of
from dispatch.models.state import Ask, Dispatch, Ended, Lane, Outcome, ThreadState
from dispatch.payloads.signals import Delegated, PermissionRequested
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


def requeue(
    state: ThreadState,
    entry: FoldEntry,
    dispatch_id: str,
    *,
    attempt: int,
    not_before_ms: int,
) -> ThreadState:
    """Put the lane's running dispatch back to the head of its queue."""
    state = replace(state, mark=entry.id)
    lane_id, lane = lane_running(state, dispatch_id)
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
    return with_dispatch(with_lane(state, lane_id, lane), DispatchId(dispatch_id), dispatch)


def end(
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
    lane = lane_without(state.lanes[ended.lane], DispatchId(dispatch_id), entry)
    return with_lane(state, ended.lane, lane)


def lane_without(lane: Lane, dispatch_id: DispatchId, entry: FoldEntry) -> Lane:
    """Return the lane without a dispatch that ended: its run or its place in the queue."""
    at_ms = milliseconds_of(entry.id)
    lane = not_steering(lane, dispatch_id)
    if lane.run is not None and lane.run.dispatch_id == dispatch_id:
        last = Ended(lane.run.fence, entry.id) if entry.writer is not None else lane.last
        return replace(lane, run=None, last=last, since_ms=at_ms if lane.queue else None)
    left = tuple(waiting for waiting in lane.queue if waiting != dispatch_id)
    if not left or lane.run is not None:
        return replace(lane, queue=left, since_ms=None)
    was_first = left[0] != lane.queue[0]
    return replace(lane, queue=left, since_ms=at_ms if was_first else lane.since_ms)


def not_steering(lane: Lane, dispatch_id: DispatchId) -> Lane:
    """Forget that a dispatch was to steer a turn of the lane."""
    left = tuple(each for each in lane.steer if each.dispatch_id != dispatch_id)
    return replace(lane, steer=left)


def lane_running(state: ThreadState, dispatch_id: str) -> tuple[str, Lane | None]:
    """Return a dispatch's lane and its name; None: it has no run there."""
    dispatch = state.dispatches.get(DispatchId(dispatch_id))
    if dispatch is None:
        return "", None
    lane = state.lanes[dispatch.lane]
    if lane.run is None or lane.run.dispatch_id != dispatch_id:
        return dispatch.lane, None
    return dispatch.lane, lane


def writing(state: ThreadState, entry: FoldEntry) -> DispatchId | None:
    """Return the dispatch whose open run wrote this."""
    run_id = (entry.writer or "").rpartition(":")[0]
    for lane in state.lanes.values():
        if lane.run is not None and lane.run.run_id == run_id:
            return lane.run.dispatch_id
    return None


def with_run(
    state: ThreadState, dispatch_id: str, **changes: EntryId | int | str
) -> ThreadState:
    """Change the run that a dispatch has."""
    lane_id, lane = lane_running(state, dispatch_id)
    if lane is None or lane.run is None:
        return state
    return with_lane(state, lane_id, replace(lane, run=replace(lane.run, **changes)))


def with_lane(state: ThreadState, lane_id: str, lane: Lane) -> ThreadState:
    """Put a lane; an empty one is forgotten."""
    lanes = {**state.lanes, lane_id: lane}
    if lane == Lane():
        del lanes[lane_id]
    return replace(state, lanes=lanes)


def with_dispatch(
    state: ThreadState, dispatch_id: DispatchId, dispatch: Dispatch
) -> ThreadState:
    """Put a dispatch."""
    return replace(state, dispatches={**state.dispatches, dispatch_id: dispatch})


def ask_of(payload: PermissionRequested | Delegated) -> Ask:
    """Return what a dispatch waits for, as the state holds it."""
    if isinstance(payload, Delegated):
        name, call_id = payload.delegation_id, payload.tool_call_id
        return Ask(name, "delegation", payload.deadline, "deny", call_id)
    return Ask(
        payload.permission_id,
        payload.kind,
        payload.deadline,
        payload.default,
        payload.tool_call_id,
    )


def with_ask(state: ThreadState, dispatch_id: str, ask: Ask) -> ThreadState:
    """Let a dispatch wait for one more answer."""
    dispatch = state.dispatches.get(DispatchId(dispatch_id))
    if dispatch is None:
        return state
    dispatch = replace(dispatch, asks=(*dispatch.asks, ask))
    return with_dispatch(state, DispatchId(dispatch_id), dispatch)


def without_ask(state: ThreadState, dispatch_id: str, ask_id: str) -> ThreadState:
    """Let a dispatch wait for it no more; what is no permission has its call's result."""
    dispatch = state.dispatches.get(DispatchId(dispatch_id))
    if dispatch is None:
        return state
    left = tuple(ask for ask in dispatch.asks if ask.id != ask_id)
    given = tuple(
        ask.call_id for ask in dispatch.asks if ask.id == ask_id and ask.kind != "permission"
    )
    dispatch = replace(dispatch, asks=left, answered=(*dispatch.answered, *given))
    return with_dispatch(state, DispatchId(dispatch_id), dispatch)
