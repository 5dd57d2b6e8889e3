"""What became of a thread's last dispatch, how its lanes stand, what is wrong around it. Pure.

Not guaranteed: that an ended dispatch is found when its terminal is not among the entries
given; then the thread's outcome alone speaks.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from dispatch import payloads
from dispatch.errors import Invalid
from dispatch.ids import DispatchId, milliseconds_of
from dispatch.models import endings, status
from dispatch.models.diagnosis import (
    Diagnosis,
    Event,
    Evidence,
    Finding,
    LaneVerdict,
    Sight,
    Stage,
    Verdict,
    rank,
    turns,
)
from dispatch.models.edits import FoldEntry
from dispatch.models.state import ThreadState
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    Completed,
    Failed,
    Queued,
    RolledBack,
    RunLost,
    SessionOrphaned,
    Steered,
    Terminal,
)

_SHOWN_EVENTS: Final = 8


def diagnose(state: ThreadState, recent: Sequence[FoldEntry], sight: Sight) -> Diagnosis:
    """Judge a thread by its state and the latest entries of its stream, newest first."""
    verdict = _forgotten(state, sight) or _last(state, recent, sight)
    return Diagnosis(
        stage=verdict.stage,
        dispatch_id=verdict.dispatch_id,
        attempt=verdict.attempt,
        cause=verdict.cause,
        next_step=verdict.next_step,
        evidence=verdict.evidence | _row_evidence(state, sight),
        lanes=tuple(sorted(_lanes(state, sight), key=_by_badness)),
        findings=tuple(_findings(state, sight)),
        events=tuple(_events(recent, sight)),
    )


def _last(state: ThreadState, recent: Sequence[FoldEntry], sight: Sight) -> Verdict:
    """Judge the dispatch that was born last; one that steered a turn is that turn."""
    named = list(_named(recent))
    joined = {each.dispatch_id for each in named if isinstance(each, Steered)}
    named = [each for each in named if each.dispatch_id not in joined]
    born = {DispatchId(payload.dispatch_id) for payload in named} | state.dispatches.keys()
    last = max(born, key=_birth, default=None)
    if last is not None and last in state.dispatches:
        return turns.judge(state, last, sight)
    said = [payload for payload in named if payload.dispatch_id == last]
    for payload in said:
        if isinstance(payload, Completed | Failed | Cancelled):
            return _ended(payload, is_undone=any(isinstance(p, RolledBack) for p in said))
    return _at_rest(state, last, sight)


def _forgotten(state: ThreadState, sight: Sight) -> Verdict | None:
    """Judge a stream that ends before what its row remembers; None if it does not."""
    row = sight.row
    if row is None or row.stream_id <= state.mark:
        return None
    kept = f"ends at {state.mark}" if state.is_open else "is missing"
    return Verdict(
        stage="stalled",
        cause=f"Redis has forgotten: the thread's stream {kept}, "
        f"but its row has seen {row.stream_id}.",
        next_step=f"Run `arbe thread reconcile {sight.ref}`: it tells the thread and ends what "
        "was open. See that Redis runs with AOF and is never flushed.",
    )


def _birth(dispatch_id: DispatchId) -> tuple[str, int]:
    entry_id, _, index = dispatch_id.partition(".")
    return entry_id, int(index) if index.isdigit() else 0


def _named(recent: Sequence[FoldEntry]) -> Iterator[Queued | Steered | RolledBack | Terminal]:
    """Yield what was said of dispatches' births and ends; what cannot be read is skipped."""
    for entry in recent:
        payload = _payload(entry)
        if isinstance(payload, Queued | Steered | RolledBack | Completed | Failed | Cancelled):
            yield payload


def _payload(entry: FoldEntry) -> payloads.Payload | None:
    try:
        return entry.payload
    except Invalid:
        return None


def _ended(terminal: Terminal, *, is_undone: bool) -> Verdict:
    cause, next_step = endings.explain(terminal)
    reason = None if isinstance(terminal, Completed) else terminal.reason
    facts: Evidence = {"runId": terminal.run_id, "reason": reason}
    return Verdict(
        stage="rolled_back" if is_undone else _word(terminal),
        dispatch_id=DispatchId(terminal.dispatch_id),
        cause=cause,
        next_step=next_step,
        evidence={name: fact for name, fact in facts.items() if fact is not None},
    )


def _at_rest(state: ThreadState, last: DispatchId | None, sight: Sight) -> Verdict:
    """Judge a thread none of whose dispatches is open or ended among the entries seen."""
    if state.outcome is None:
        return Verdict(
            stage="idle",
            cause="No entry of this thread waits for an agent.",
            next_step=f'Mention an agent: arbe thread entries create {sight.ref} "@handle …".',
        )
    return Verdict(
        stage="failed" if state.outcome == "orphaned" else state.outcome,
        dispatch_id=last,
        cause=f"The last dispatch to end was {state.outcome}, long ago.",
        next_step=f"Look for its ending: arbe thread entries list {sight.ref}.",
    )


def _word(terminal: Terminal) -> Stage:
    match terminal:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case Cancelled():
            return "cancelled"


def _lanes(state: ThreadState, sight: Sight) -> Iterator[LaneVerdict]:
    """Judge the foremost dispatch of every lane with work."""
    for lane_id, lane in state.lanes.items():
        if lane.has_work:
            foremost = lane.run.dispatch_id if lane.run is not None else lane.queue[0]
            found = turns.judge(state, foremost, sight)
            yield LaneVerdict(
                agent_id=lane_id,
                queued=len(lane.queue),
                stage=found.stage,
                dispatch_id=foremost,
                attempt=found.attempt,
                cause=found.cause,
                next_step=found.next_step,
                evidence=found.evidence,
            )


def _by_badness(verdict: LaneVerdict) -> tuple[int, str]:
    return rank(verdict.stage), verdict.dispatch_id or ""


def _row_evidence(state: ThreadState, sight: Sight) -> Evidence:
    evidence: Evidence = {"seq": state.seq, "mark": state.mark}
    if sight.row is not None:
        evidence |= {"rowStatus": sight.row.status, "rowStreamId": sight.row.stream_id}
    return evidence


def _findings(state: ThreadState, sight: Sight) -> Iterator[Finding]:
    if not sight.broker_answers:
        yield Finding(
            code="broker_away",
            gravity="failed",
            cause="The broker does not answer: what is queued is not started.",
            next_step="Bring the broker of BROKER_URL back; what waits starts by itself.",
        )
    row = sight.row
    if row is None or not state.is_open or row.stream_id > state.mark:
        return
    due = status.thread_status(state, is_sub_job=row.is_sub_job)
    # A queued dispatch makes no `running` row: the claim does. A turn's end takes a moment.
    if row.status == due or _only_queued(state) or not _is_old(state, sight):
        return
    yield Finding(
        code="row_lags",
        gravity="degraded",
        cause=f"Its row says `{row.status}` though its stream says `{due}` since {state.mark}.",
        next_step=f"Run `arbe thread reconcile {sight.ref}`; "
        "else a reader or the prune sweep repairs it.",
    )


def _only_queued(state: ThreadState) -> bool:
    return state.has_work and all(lane.run is None for lane in state.lanes.values())


def _is_old(state: ThreadState, sight: Sight) -> bool:
    age_seconds = sight.seconds_since(milliseconds_of(state.mark))
    return age_seconds > sight.patience.redeliver_after_seconds


def _events(recent: Sequence[FoldEntry], sight: Sight) -> Iterator[Event]:
    """Yield the last durable entries, and of each ephemeral type the newest before them."""
    seen: set[str] = set()
    shown = 0
    for entry in recent:
        payload = _payload(entry)
        kind = payloads.type_of(payload) if payload is not None else "unreadable"
        if entry.seq is None and kind in seen:
            continue
        seen.add(kind)
        yield Event(
            id=entry.id,
            type=kind,
            ago_seconds=sight.seconds_since(milliseconds_of(entry.id)),
            dispatch_id=getattr(payload, "dispatch_id", None),
            reason=_reason(payload),
        )
        shown += 1
        if shown == _SHOWN_EVENTS:
            return


def _reason(payload: payloads.Payload | None) -> str | None:
    """Return the stable word that says why; texts for people stay out."""
    if isinstance(payload, Failed | Cancelled | SessionOrphaned | CancelRequested | RunLost):
        return payload.reason
    return None
