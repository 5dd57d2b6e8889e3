"""What became of a thread's last dispatch, in words that say what to do. Pure.

Not guaranteed: that an ended dispatch is found when its terminal is not among the entries
given; then the thread's outcome alone speaks.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from dispatch.errors import Invalid
from dispatch.ids import DispatchId, WorkerId
from dispatch.models import endings
from dispatch.models.fold import FoldEntry
from dispatch.models.state import Dispatch, Lane, Run, ThreadState
from dispatch.payloads.signals import Cancelled, Completed, Failed, Queued, Terminal

Stage = Literal[
    "idle",
    "queued",
    "backing_off",
    "running",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
    "stalled",
]
Evidence = dict[str, str | int | bool | None]
_GRACES = 4
"""An unanswered hint is sent again every grace; after four, silence is no accident."""


class Patience(Protocol):
    """How long silence is normal; `Settings` has it."""

    @property
    def redeliver_after_seconds(self) -> float:
        """After this long an unanswered hint is sent again."""
        ...

    @property
    def worker_dead_seconds(self) -> float:
        """A worker process that did not beat this long is dead."""
        ...


class Diagnosis(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The stage of the thread's last dispatch, why, and what to do about it."""

    stage: Stage
    dispatch_id: DispatchId | None = None
    attempt: int | None = None
    """The attempt under way, or the last one; None: ended or unknown, 0: none yet."""
    cause: str
    next_step: str
    evidence: Evidence = {}
    """Facts behind the verdict; `…Ms` are Unix milliseconds, `…Seconds` durations."""


class _Verdict(NamedTuple):
    stage: Stage
    cause: str
    next_step: str


class _Moment(msgspec.Struct, frozen=True):
    """What the verdict is measured against."""

    ms: int
    patience: Patience
    worker_beat_ms: int | None

    @property
    def worker_is_silent(self) -> bool:
        """Tell whether the worker asked about has beaten once and then stopped."""
        if self.worker_beat_ms is None:
            return False
        return self.ms - self.worker_beat_ms > self.patience.worker_dead_seconds * 1000

    def seconds_since(self, ms: int) -> int:
        """Return whole seconds since a moment; 0 if it is to come."""
        return max(0, (self.ms - ms) // 1000)


def diagnose(
    state: ThreadState,
    recent: Sequence[FoldEntry],
    *,
    now_ms: int,
    patience: Patience,
    worker_beat_ms: int | None,
) -> Diagnosis:
    """Classify the thread's last dispatch.

    Args: recent: the stream's latest entries, in any order. now_ms: Redis's clock.
        worker_beat_ms: the last beat of `worker_of(state)`, or if that is None, of the worker
        that beat last of all. None: none is known, and no run is called dead for that.
    """
    moment = _Moment(now_ms, patience, worker_beat_ms)
    named = list(_named(recent))
    born = {DispatchId(payload.dispatch_id) for payload in named} | state.dispatches.keys()
    last = max(born, key=_birth, default=None)
    if last is None or last not in state.dispatches:
        terminals = [p for p in named if p.dispatch_id == last and not isinstance(p, Queued)]
        return _ended(state, last, terminals[0] if terminals else None)
    dispatch = state.dispatches[last]
    lane = state.lanes[dispatch.lane]
    if lane.run is None:
        verdict = _waiting(last, dispatch, lane, moment)
    elif lane.run.dispatch_id == last:
        verdict = _running(lane.run, moment)
    else:
        verdict = _behind(lane.run, _running(lane.run, moment))
    return Diagnosis(
        stage=verdict.stage,
        dispatch_id=last,
        attempt=dispatch.attempt,
        cause=verdict.cause,
        next_step=verdict.next_step,
        evidence=_evidence(last, dispatch, lane, moment),
    )


def worker_of(state: ThreadState) -> WorkerId | None:
    """Tell whose beat `diagnose` asks for: the worker that runs in the last dispatch's lane."""
    last = max(state.dispatches, key=_birth, default=None)
    if last is None:
        return None
    run = state.lanes[state.dispatches[last].lane].run
    return run.worker_id if run is not None else None


def _birth(dispatch_id: DispatchId) -> tuple[str, int]:
    entry_id, _, index = dispatch_id.partition(".")
    return entry_id, int(index) if index.isdigit() else 0


def _named(recent: Sequence[FoldEntry]) -> Iterator[Queued | Terminal]:
    """Yield what was said of dispatches' births and ends; what cannot be read is skipped."""
    for entry in recent:
        try:
            payload = entry.payload
        except Invalid:
            continue
        if isinstance(payload, Queued | Completed | Failed | Cancelled):
            yield payload


def _ended(state: ThreadState, last: DispatchId | None, terminal: Terminal | None) -> Diagnosis:
    if terminal is not None:
        cause, next_step = endings.explain(terminal)
        reason = None if isinstance(terminal, Completed) else terminal.reason
        return Diagnosis(
            stage=_word(terminal),
            dispatch_id=last,
            cause=cause,
            next_step=next_step,
            evidence={"runId": terminal.run_id, "reason": reason},
        )
    if state.outcome is None:
        return Diagnosis(
            stage="idle",
            cause="No entry of this thread waits for an agent.",
            next_step='Mention an agent: arbe thread entries create <ref> "@handle …".',
            evidence={"seq": state.seq},
        )
    return Diagnosis(
        stage="failed" if state.outcome == "orphaned" else state.outcome,
        dispatch_id=last,
        cause=f"The last dispatch to end was {state.outcome}, long ago.",
        next_step="Look for its ending with `arbe thread entries list`.",
        evidence={"mark": state.mark},
    )


def _word(terminal: Terminal) -> Literal["completed", "failed", "cancelled"]:
    match terminal:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case Cancelled():
            return "cancelled"


def _waiting(last: DispatchId, dispatch: Dispatch, lane: Lane, moment: _Moment) -> _Verdict:
    is_head = lane.queue[:1] == (last,)
    if is_head and moment.ms < dispatch.not_before_ms:
        seconds = (dispatch.not_before_ms - moment.ms + 999) // 1000
        return _Verdict(
            "backing_off",
            f"Attempt {dispatch.attempt} of {dispatch.max_attempts} died before it did "
            f"anything visible; the next one may start in {seconds} s.",
            "Wait: it starts by itself.",
        )
    waited_seconds = moment.seconds_since(_waits_since(dispatch, lane, moment))
    patience_seconds = _GRACES * moment.patience.redeliver_after_seconds
    nobody_lives = moment.worker_beat_ms is None or moment.worker_is_silent
    if waited_seconds > patience_seconds and nobody_lives:
        return _Verdict(
            "stalled",
            f"Its lane has waited for a worker for {waited_seconds} s and none is alive.",
            "Start a worker (`arbe up`), or read the workers' log if they should be running.",
        )
    place = "It is next in its lane" if is_head else "Others are before it in its lane"
    return _Verdict(
        "queued",
        f"{place} and waits for a free worker.",
        "Wait; if this lasts, start more workers or raise ARBE_WORKER_CONCURRENCY.",
    )


def _waits_since(dispatch: Dispatch, lane: Lane, moment: _Moment) -> int:
    since_ms = lane.since_ms if lane.since_ms is not None else moment.ms
    return max(since_ms, dispatch.not_before_ms)


def _running(run: Run, moment: _Moment) -> _Verdict:
    silent_seconds = moment.seconds_since(run.at_ms)
    if moment.ms >= run.over_ms:
        return _Verdict(
            "stalled",
            f"Run {run.run_id} of worker {run.worker_id} is over its time "
            f"(silent for {silent_seconds} s) and nobody has ended it yet.",
            "Run `arbe thread reconcile <id>`; check that beat and a worker are running.",
        )
    if moment.worker_is_silent:
        return _Verdict(
            "stalled",
            f"Worker {run.worker_id} shows no sign of life; "
            f"its run wrote last {silent_seconds} s ago.",
            "Start a worker: the sweep ends or repeats the run within seconds.",
        )
    if run.cancel_deadline_ms is not None:
        return _Verdict(
            "cancelling",
            f"Run {run.run_id} was asked to end.",
            "Wait: if it does not end by its deadline, the record ends it.",
        )
    return _Verdict(
        "running",
        f"Worker {run.worker_id} runs attempt {run.attempt}; "
        f"it wrote last {silent_seconds} s ago.",
        "Follow it: arbe thread entries read <id>.",
    )


def _behind(run: Run, verdict: _Verdict) -> _Verdict:
    """Say of a dispatch behind a run that it waits, unless the run itself is stuck."""
    if verdict.stage == "stalled":
        return _Verdict(
            "stalled", f"It waits for another run. {verdict.cause}", verdict.next_step
        )
    return _Verdict(
        "queued",
        f"It waits until run {run.run_id} in its lane has ended ({verdict.stage}).",
        "Wait, or cancel the dispatch that runs.",
    )


def _evidence(last: DispatchId, dispatch: Dispatch, lane: Lane, moment: _Moment) -> Evidence:
    evidence: Evidence = {
        "agentId": dispatch.lane,
        "maxAttempts": dispatch.max_attempts,
        "nowMs": moment.ms,
        "workerBeatMs": moment.worker_beat_ms,
    }
    if last in lane.queue:
        evidence |= {"before": lane.queue.index(last), "waitsSinceMs": lane.since_ms}
        evidence["notBeforeMs"] = dispatch.not_before_ms or None
    if lane.run is not None:
        evidence |= {
            "runId": lane.run.run_id,
            "workerId": lane.run.worker_id,
            "lastSignMs": lane.run.at_ms,
            "overMs": lane.run.over_ms,
            "cancelDeadlineMs": lane.run.cancel_deadline_ms,
            "effects": lane.run.effects,
        }
    return evidence
