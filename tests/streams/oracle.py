"""What accept, expire and take must make of a state: the same decisions, written a second time.

From the state's value alone, in Python; the scripts decide in Lua, from the hash.
"""

from collections.abc import Sequence

from dispatch.config import Settings
from dispatch.ids import AgentId, DispatchId
from dispatch.models.state import Lane, Run, ThreadState
from dispatch.models.status import thread_status
from dispatch.payloads.chat import Chat
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    EntryWritten,
    Queued,
    RolledBack,
)
from dispatch.streams.threads import Terms
from tests.streams.scene import Read

TAKE_PLACE = {"interrupt": "interrupted", "rollback": "rolled_back"}
Receipt = tuple[object, ...]


def refusal(
    state: ThreadState, lanes: Sequence[AgentId], terms: Terms, settings: Settings
) -> str | None:
    """Tell by which word a new entry is refused; None: it is not."""
    status = thread_status(state, is_sub_job=terms.is_sub_job)
    if terms.if_status and status not in terms.if_status:
        return "STATUS"
    for agent_id in lanes:
        lane = state.lanes.get(str(agent_id), Lane())
        if terms.when_busy == "reject" and lane.has_work:
            return "ACTIVE"
        if terms.when_busy != "write" and len(lane.queue) >= settings.max_queue_depth:
            return "BUSY"
    return None


def receipts(state: ThreadState, lanes: Sequence[AgentId], terms: Terms) -> list[Receipt]:
    """Tell what an accepted entry writes: itself, then lane by lane what becomes of it."""
    told: list[Receipt] = [("chat",)]
    for agent_id in dict.fromkeys(lanes):
        lane = state.lanes.get(str(agent_id), Lane())
        if terms.when_busy == "write" and lane.has_work:
            told.append(("written", str(agent_id), _active(lane)))
            continue
        is_waiting = lane.run is None and _is_waiting(state, lane)
        if terms.when_busy in TAKE_PLACE:
            if lane.run is not None:
                told += _displaced(lane.run, terms)
            elif is_waiting:
                told += _ended(state, lane, terms)
        is_first = terms.when_busy in TAKE_PLACE and (
            len(lane.queue) > 1 if is_waiting else lane.has_work
        )
        steers = lane.run.dispatch_id if lane.run and _may_steer(lane.run, terms) else None
        told.append(("queued", str(agent_id), is_first, steers))
    return told


def read_receipts(entries: Sequence[Read]) -> list[Receipt]:
    """Return the same from the stream."""
    return [_receipt(entry) for entry in entries]


def verdict(
    state: ThreadState, lane_id: str, *, now_ms: int, dead: str | None, settings: Settings
) -> str:
    """Tell what `expire` answers."""
    lane = state.lanes.get(lane_id, Lane())
    if lane.run is not None:
        silent_ms = now_ms - lane.run.alive_ms
        is_dead = dead == lane.run.run_id and silent_ms >= settings.worker_dead_seconds * 1000
        return _of_run(state, lane.run, now_ms=now_ms, is_dead=is_dead)
    if not lane.queue:
        return "none"
    head = state.dispatches[lane.queue[0]]
    if head.asks:
        left = [ask.kind for ask in head.asks if now_ms < ask.deadline_ms]
        waits = "delegating" if "delegation" in left else "wait"
        return waits if left else "hint"
    not_before_ms = head.not_before_ms
    if now_ms < not_before_ms:
        return "wait"
    waited_ms = now_ms - max(lane.since_ms or 0, not_before_ms)
    return "hint" if waited_ms < settings.start_timeout_seconds * 1000 else "failed"


def deliveries(state: ThreadState, lane_id: str, target: DispatchId) -> list[DispatchId]:
    """Tell what the turn `target` takes in at its next step."""
    lane = state.lanes.get(lane_id, Lane())
    if lane.run is None or lane.run.dispatch_id != target:
        return []
    return list(lane.steering(target))


def leaving(state: ThreadState, lane_id: str, fence: str) -> str:
    """Tell what `wait` answers."""
    run = state.lanes.get(lane_id, Lane()).run
    if run is None or run.fence != fence:
        return "fenced"
    if run.cancel_deadline_ms is not None:
        return "cancelling"
    dispatch = state.dispatches[run.dispatch_id]
    if not dispatch.asks:
        return "answered"
    return "effects" if run.effects and not dispatch.policy.repeatable else "waiting"


def answering(
    state: ThreadState, dispatch_id: DispatchId, ask_id: str, *, now_ms: int, is_over: bool
) -> str:
    """Tell what `answer` answers: a word, or the agent that can go on now."""
    dispatch = state.dispatches.get(dispatch_id)
    asks = {ask.id: ask for ask in dispatch.asks} if dispatch is not None else {}
    if dispatch is None or ask_id not in asks:
        return "none"
    if is_over and now_ms < asks[ask_id].deadline_ms:
        return "early"
    is_free = state.lanes[dispatch.lane].run is None
    return dispatch.lane if is_free and len(asks) == 1 else "answered"


def _of_run(state: ThreadState, run: Run, *, now_ms: int, is_dead: bool) -> str:
    policy = state.dispatches[run.dispatch_id].policy
    if now_ms < run.over_ms and not is_dead:
        if state.dispatches[run.dispatch_id].asks:
            return "live"  # who waits for an answer is not mute
        return _of_living(run, now_ms - run.at_ms, policy.warn_ms, policy.progress_ms)
    is_asked = run.cancel_deadline_ms is not None
    if is_asked and run.cancel_reason != "no_progress":
        return "cancelled"
    is_silent = is_dead or now_ms >= run.alive_ms + run.lease_ms
    may_repeat = policy.repeatable or not run.effects
    if is_silent and not is_asked and may_repeat and run.attempt < policy.max_attempts:
        return "lost"
    return "failed"


def _of_living(run: Run, mute_ms: int, warn_ms: int, progress_ms: int) -> str:
    if run.cancel_deadline_ms is not None:
        return "live"
    if 0 < progress_ms <= mute_ms:
        return "stopping"
    if 0 < warn_ms <= mute_ms and run.warned_ms != run.at_ms:
        return "warned"
    return "live"


def _displaced(run: Run, terms: Terms) -> list[Receipt]:
    told: list[Receipt] = []
    if run.cancel_deadline_ms is None:
        told.append(("cancel", run.dispatch_id, TAKE_PLACE[terms.when_busy]))
    if terms.when_busy == "rollback" and run.cancel_reason != "rolled_back":
        told.append(("rolled_back", run.dispatch_id))
    return told


def _is_waiting(state: ThreadState, lane: Lane) -> bool:
    return bool(lane.queue) and bool(state.dispatches[lane.queue[0]].asks)


def _ended(state: ThreadState, lane: Lane, terms: Terms) -> list[Receipt]:
    dispatch_id = lane.queue[0]
    told: list[Receipt] = []
    if terms.when_busy == "rollback":
        told.append(("rolled_back", dispatch_id))
    told += [("ToolResult",) for _ in state.dispatches[dispatch_id].calls]
    told.append(("cancelled", dispatch_id, TAKE_PLACE[terms.when_busy]))
    return [*told, *(("FellThrough",) for _ in lane.steering(dispatch_id))]


def _may_steer(run: Run, terms: Terms) -> bool:
    return terms.when_busy == "steer" and run.cancel_deadline_ms is None


def _active(lane: Lane) -> DispatchId:
    return lane.run.dispatch_id if lane.run is not None else lane.queue[0]


def _receipt(entry: Read) -> Receipt:
    match entry.payload:
        case Chat():
            return ("chat",)
        case Queued() as queued:
            return ("queued", queued.agent_id, queued.first, queued.steers)
        case EntryWritten() as written:
            return ("written", written.agent_id, written.active_dispatch_id)
        case Cancelled(reason=reason) | CancelRequested(reason=reason) as asked:
            word = "cancelled" if isinstance(asked, Cancelled) else "cancel"
            return (word, asked.dispatch_id, reason)
        case RolledBack() as rolled:
            return ("rolled_back", rolled.dispatch_id)
        case other:
            return (type(other).__name__,)
