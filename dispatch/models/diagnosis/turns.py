"""Where one open dispatch stands: it waits, backs off, runs, ends, or stands still. Pure.

Not guaranteed: that a dispatch nobody carries on is called stalled at once; silence is normal
for as long as the settings say.
"""

from typing import Final, NamedTuple

from dispatch.ids import DispatchId
from dispatch.models.diagnosis import Evidence, Sight, Stage, Verdict
from dispatch.models.state import Dispatch, Lane, Run, ThreadState
from dispatch.task_names import TURNS_QUEUE

_GRACES: Final = 4
"""An unanswered hint is sent again every grace; after four, silence is no accident."""
_SHOWN: Final = 10
"""Of what stands before a dispatch, so many are named."""
_RECONCILE: Final = (
    "Run `arbe thread reconcile {ref}`; then `arbe diagnose --fleet`: the sweeps should have "
    "done it."
)


class _Said(NamedTuple):
    stage: Stage
    cause: str
    next_step: str


def judge(state: ThreadState, dispatch_id: DispatchId, sight: Sight) -> Verdict:
    """Return where a dispatch of this state stands."""
    dispatch = state.dispatches[dispatch_id]
    lane = state.lanes[dispatch.lane]
    if lane.run is not None and lane.run.dispatch_id == dispatch_id:
        stage, cause, next_step = _running(lane.run, sight)
    elif lane.run is not None:
        stage, cause, next_step = _behind(lane.run, sight)
    elif lane.queue[:1] == (dispatch_id,):
        stage, cause, next_step = _next(dispatch, lane, sight)
    else:
        stage, cause, next_step = _behind_another(state, lane, sight)
    return Verdict(
        stage=stage,
        dispatch_id=dispatch_id,
        attempt=dispatch.attempt,
        cause=cause,
        next_step=next_step,
        evidence=_evidence(dispatch_id, dispatch, lane, sight),
    )


def _next(dispatch: Dispatch, lane: Lane, sight: Sight) -> _Said:
    """Judge the head of a free lane."""
    if sight.now_ms < dispatch.not_before_ms:
        seconds = sight.seconds_until(dispatch.not_before_ms)
        return _Said(
            "backing_off",
            f"Attempt {dispatch.attempt} of {dispatch.policy.max_attempts} ended before its "
            f"turn did; the next one may start in {seconds} s.",
            "Wait: it starts by itself.",
        )
    since_ms = lane.since_ms if lane.since_ms is not None else sight.now_ms
    waited_seconds = sight.seconds_since(max(since_ms, dispatch.not_before_ms))
    if waited_seconds > sight.patience.start_timeout_seconds:
        return _Said(
            "stalled",
            f"Nobody started it for {waited_seconds} s, beyond ARBE_START_TIMEOUT_SECONDS, and "
            "no sweep has ended it.",
            _RECONCILE.format(ref=sight.ref),
        )
    if waited_seconds > _GRACES * sight.patience.redeliver_after_seconds:
        return _long_wait(dispatch, waited_seconds, sight)
    return _Said(
        "queued",
        "It is next in its lane and waits for a free worker.",
        "Wait; if this lasts, start more workers or raise ARBE_WORKER_CONCURRENCY.",
    )


def _long_wait(dispatch: Dispatch, waited_seconds: int, sight: Sight) -> _Said:
    waited = f"It is next in its lane and has waited for a worker for {waited_seconds} s"
    if not sight.living:
        return _Said(
            "stalled",
            f"{waited}: none is alive.",
            "Start a worker (`arbe up`), or read the workers' log if they should be running.",
        )
    if not sight.broker_answers:
        return _Said(
            "stalled",
            f"{waited}: the broker does not answer, so no worker hears of it.",
            "Bring the broker of BROKER_URL back; what waits starts by itself.",
        )
    if not sight.taking:
        return _Said(
            "stalled",
            f"{waited}: all {len(sight.living)} say that they hear nothing from the broker.",
            "Their supervisor should start them again once they hold no run; if it does not, "
            "restart them and look at the broker.",
        )
    idle_count = sum(not worker.runs for worker in sight.taking)
    if not idle_count:
        return _Said(
            "queued",
            f"{waited}: all {len(sight.taking)} are busy.",
            "Wait, start more workers, or raise ARBE_WORKER_CONCURRENCY.",
        )
    queue = _queue_of(dispatch, sight)
    return _Said(
        "queued",
        f"{waited} though {idle_count} of {len(sight.living)} run nothing.",
        f"See that a worker takes from queue `{queue}` (ARBE_QUEUES, or -Q of its command).",
    )


def _running(run: Run, sight: Sight) -> _Said:
    silent_seconds = sight.seconds_since(run.alive_ms)
    if sight.now_ms >= run.over_ms:
        return _Said(
            "stalled",
            f"Run {run.run_id} of worker {run.worker_id} is over: {_why_over(run, sight)}. "
            "Nobody has ended it yet.",
            _RECONCILE.format(ref=sight.ref),
        )
    worker = sight.worker(run.worker_id)
    if worker is not None and sight.is_dead(worker):
        return _Said(
            "stalled",
            f"Worker {run.worker_id} shows no sign of life for "
            f"{sight.seconds_since(worker.beat_ms)} s; its run wrote last "
            f"{silent_seconds} s ago.",
            "Start a worker: the sweep ends or repeats the run within seconds.",
        )
    if run.cancel_deadline_ms is not None:
        return _Said(
            "cancelling",
            f"Run {run.run_id} was asked to end.",
            "Wait: if it has not ended in "
            f"{sight.seconds_until(run.cancel_deadline_ms)} s, the record ends it.",
        )
    return _Said(
        "running",
        f"Worker {run.worker_id} runs attempt {run.attempt}; "
        f"it wrote last {silent_seconds} s ago.",
        f"Follow it: arbe thread entries read {sight.ref}.",
    )


def _why_over(run: Run, sight: Sight) -> str:
    match _ends_by(run):
        case "cancel":
            return "it was asked to end and did not within ARBE_CANCEL_GRACE_SECONDS"
        case "run_timeout":
            return "it reached its hard limit (ARBE_RUN_TIMEOUT_SECONDS)"
        case _:
            silent_seconds = sight.seconds_since(run.alive_ms)
            return f"it was silent for {silent_seconds} s, longer than its lease"


def _ends_by(run: Run) -> str:
    """Name the clock that ends the run, unless it says something first."""
    if run.cancel_deadline_ms == run.over_ms:
        return "cancel"
    return "run_timeout" if run.hard_ms == run.over_ms else "lease"


def _behind(run: Run, sight: Sight) -> _Said:
    """Say of a dispatch behind a run that it waits, unless the run itself is stuck."""
    stage, cause, next_step = _running(run, sight)
    if stage == "stalled":
        return _Said(stage, f"It waits for another run. {cause}", next_step)
    return _Said(
        "waiting",
        f"Its lane is busy: it waits until run {run.run_id} has ended ({stage}).",
        f"Wait, or end what runs: arbe thread cancel {sight.ref} {run.dispatch_id}.",
    )


def _behind_another(state: ThreadState, lane: Lane, sight: Sight) -> _Said:
    """Say of a dispatch behind the head of a free lane that it shares the head's lot."""
    head = lane.queue[0]
    stage, cause, next_step = _next(state.dispatches[head], lane, sight)
    if stage == "stalled":
        return _Said(stage, f"It waits for {head}. {cause}", next_step)
    return _Said("waiting", f"It waits until {head} has had its turn ({stage}).", next_step)


def _queue_of(dispatch: Dispatch, sight: Sight) -> str:
    agent = sight.agents.get(dispatch.lane)
    return agent.queue if agent is not None else TURNS_QUEUE


def _evidence(
    dispatch_id: DispatchId, dispatch: Dispatch, lane: Lane, sight: Sight
) -> Evidence:
    agent = sight.agents.get(dispatch.lane)
    evidence: Evidence = {
        "agentId": dispatch.lane,
        "agent": f"@{agent.handle}" if agent is not None else None,
        "maxAttempts": dispatch.policy.max_attempts,
        "nowMs": sight.now_ms,
        "workersAlive": len(sight.living),
    }
    if dispatch_id in lane.queue:
        position = lane.queue.index(dispatch_id)
        before = [lane.run.dispatch_id] if lane.run is not None else []
        evidence |= {
            "brokerQueue": _queue_of(dispatch, sight),
            "brokerAnswers": sight.broker_answers,
            "queuePosition": position,
            "standsBehind": [str(each) for each in (*before, *lane.queue[:position])][:_SHOWN],
            "waitsSinceMs": lane.since_ms,
            "notBeforeMs": dispatch.not_before_ms or None,
        }
    if lane.run is not None:
        evidence |= _run_evidence(lane.run, sight)
    return {name: fact for name, fact in evidence.items() if fact is not None}


def _run_evidence(run: Run, sight: Sight) -> Evidence:
    worker = sight.worker(run.worker_id)
    return {
        "runId": run.run_id,
        "workerId": run.worker_id,
        "workerBeatMs": worker.beat_ms if worker is not None else None,
        "workerSilentSeconds": (
            sight.seconds_since(worker.beat_ms) if worker is not None else None
        ),
        "lastSignMs": run.alive_ms,
        "overMs": run.over_ms,
        "secondsLeft": sight.seconds_until(run.over_ms),
        "overBy": _ends_by(run),
        "cancelDeadlineMs": run.cancel_deadline_ms,
        "effects": run.effects,
    }
