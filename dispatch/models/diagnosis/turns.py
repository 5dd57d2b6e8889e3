"""Where one open dispatch stands: it waits, backs off, runs, ends, or stands still. Pure.

Not guaranteed: that a dispatch nobody carries on is called stalled at once; silence is normal
for as long as the settings say.
"""

from typing import Final

from dispatch.ids import DispatchId
from dispatch.models.diagnosis import Said, Sight, Verdict, asks, evidence, runs
from dispatch.models.state import Dispatch, Lane, Run, ThreadState

_GRACES: Final = 4
"""An unanswered hint is sent again every grace; after four, silence is no accident."""


def judge(state: ThreadState, dispatch_id: DispatchId, sight: Sight) -> Verdict:
    """Return where a dispatch of this state stands."""
    dispatch = state.dispatches[dispatch_id]
    lane = state.lanes[dispatch.lane]
    if lane.run is not None:
        said = _run(lane.run, state.dispatches[lane.run.dispatch_id], sight)
        if lane.run.dispatch_id != dispatch_id:
            is_next = lane.target_of(dispatch_id) == lane.run.dispatch_id
            said = _behind(lane.run, said, sight, steers=is_next)
    elif lane.queue[:1] == (dispatch_id,):
        said = _next(dispatch, lane, sight)
    else:
        said = _behind_another(state, lane, sight)
    return Verdict(
        stage=said.stage,
        dispatch_id=dispatch_id,
        attempt=dispatch.attempt,
        cause=said.cause,
        next_step=said.next_step,
        evidence=evidence.of(dispatch_id, dispatch, lane, sight),
    )


def _run(run: Run, dispatch: Dispatch, sight: Sight) -> Said:
    """Judge a run; one that is well and waits for answers is not mute."""
    said = runs.judge(run, dispatch, sight)
    if dispatch.asks and said.stage in {"running", "no_progress"}:
        return asks.judge(dispatch, sight, is_held=True)
    return said


def _next(dispatch: Dispatch, lane: Lane, sight: Sight) -> Said:
    """Judge the head of a free lane."""
    if dispatch.asks:
        return asks.judge(dispatch, sight, is_held=False)
    if sight.now_ms < dispatch.not_before_ms:
        seconds = sight.seconds_until(dispatch.not_before_ms)
        return Said(
            "backing_off",
            f"Attempt {dispatch.attempt} of {dispatch.policy.max_attempts} ended before its "
            f"turn did; the next one may start in {seconds} s.",
            "Wait: it starts by itself.",
        )
    since_ms = lane.since_ms if lane.since_ms is not None else sight.now_ms
    waited_seconds = sight.seconds_since(max(since_ms, dispatch.not_before_ms))
    if waited_seconds > sight.patience.start_timeout_seconds:
        return Said(
            "stalled",
            f"Nobody started it for {waited_seconds} s, beyond ARBE_START_TIMEOUT_SECONDS, and "
            "no sweep has ended it.",
            sight.reconcile,
        )
    if waited_seconds > _GRACES * sight.patience.redeliver_after_seconds:
        return _long_wait(dispatch, waited_seconds, sight)
    return Said(
        "queued",
        "It is next in its lane and waits for a free worker.",
        "Wait; if this lasts, start more workers or raise ARBE_WORKER_CONCURRENCY.",
    )


def _long_wait(dispatch: Dispatch, waited_seconds: int, sight: Sight) -> Said:
    waited = f"It is next in its lane and has waited for a worker for {waited_seconds} s"
    if not sight.living:
        return Said(
            "stalled",
            f"{waited}: none is alive.",
            "Start a worker (`arbe up`), or read the workers' log if they should be running.",
        )
    if not sight.broker_answers:
        return Said(
            "stalled",
            f"{waited}: the broker does not answer, so no worker hears of it.",
            "Bring the broker of BROKER_URL back; what waits starts by itself.",
        )
    if not sight.taking:
        return Said(
            "stalled",
            f"{waited}: all {len(sight.living)} say that they hear nothing from the broker.",
            "Their supervisor should start them again once they hold no run; if it does not, "
            "restart them and look at the broker.",
        )
    idle_count = sum(not worker.runs for worker in sight.taking)
    if not idle_count:
        return Said(
            "queued",
            f"{waited}: all {len(sight.taking)} are busy.",
            "Wait, start more workers, or raise ARBE_WORKER_CONCURRENCY.",
        )
    queue = evidence.broker_queue(dispatch, sight)
    return Said(
        "queued",
        f"{waited} though {idle_count} of {len(sight.taking)} run nothing.",
        f"See that a worker takes from queue `{queue}` (ARBE_QUEUES, or -Q of its command).",
    )


def _behind(run: Run, running: Said, sight: Sight, *, steers: bool) -> Said:
    """Say of a dispatch behind a run that it waits, unless the run itself is stuck."""
    if running.stage == "stalled":
        return Said("stalled", f"It waits for another run. {running.cause}", running.next_step)
    how = "until it has ended"
    if steers:
        how = "to join its turn at its next step, or else for a turn of its own after it"
    return Said(
        "waiting",
        f"Its lane is busy with run {run.run_id} ({running.stage}); it waits {how}.",
        f"Wait, or end what runs: arbe thread cancel {sight.ref} {run.dispatch_id}.",
    )


def _behind_another(state: ThreadState, lane: Lane, sight: Sight) -> Said:
    """Say of a dispatch behind the head of a free lane that it shares the head's lot."""
    head = lane.queue[0]
    stage, cause, next_step = _next(state.dispatches[head], lane, sight)
    if stage == "stalled":
        return Said(stage, f"It waits for {head}. {cause}", next_step)
    return Said("waiting", f"It waits until {head} has had its turn ({stage}).", next_step)
