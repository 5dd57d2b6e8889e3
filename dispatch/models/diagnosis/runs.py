"""How a run stands by its clocks: its lease, its progress, its hard limit, its cancel. Pure."""

from typing import Final

from dispatch.models.diagnosis import Said, Sight
from dispatch.models.state import Dispatch, Run

_CANCELS: Final = {
    "requested": "somebody asked for it",
    "cascade": "what it works for was cancelled",
    "interrupted": "a later entry takes its place",
    "rolled_back": "a later entry undoes it and takes its place",
    "no_progress": "its agent was mute beyond its progress limit",
}


def judge(run: Run, dispatch: Dispatch, sight: Sight) -> Said:
    """Return where a dispatch stands that this run carries."""
    if sight.now_ms >= run.over_ms:
        return Said(
            "stalled",
            f"Run {run.run_id} of worker {run.worker_id} is over: {_why_over(run, sight)}. "
            "Nobody has ended it yet.",
            sight.reconcile,
        )
    silent_seconds = sight.seconds_since(run.alive_ms)
    worker = sight.worker(run.worker_id)
    if worker is not None and sight.is_dead(worker):
        return Said(
            "stalled",
            f"Worker {run.worker_id} shows no sign of life for "
            f"{sight.seconds_since(worker.beat_ms)} s; its run's last was {silent_seconds} s "
            "ago.",
            "Start a worker: the sweep ends or repeats the run within seconds.",
        )
    if run.cancel_deadline_ms is not None:
        return Said(
            "cancelling",
            f"Run {run.run_id} was asked to end: "
            f"{_CANCELS.get(run.cancel_reason, run.cancel_reason or _CANCELS['requested'])}.",
            "Wait: if it has not ended in "
            f"{sight.seconds_until(run.cancel_deadline_ms)} s, the record ends it.",
        )
    if run.warned_ms == run.at_ms:
        return _mute(run, dispatch, sight)
    return Said(
        "running",
        f"Worker {run.worker_id} runs attempt {run.attempt}; its agent wrote last "
        f"{sight.seconds_since(run.at_ms)} s ago, it lived {silent_seconds} s ago.",
        f"Follow it: arbe thread entries read {sight.ref}.",
    )


def _mute(run: Run, dispatch: Dispatch, sight: Sight) -> Said:
    """Judge a run that lives and was warned that its agent says nothing."""
    stop_ms = progress_deadline_ms(run, dispatch)
    end = (
        "it is never stopped for that"
        if stop_ms is None
        else f"it is stopped in {sight.seconds_until(stop_ms)} s"
    )
    return Said(
        "no_progress",
        f"Worker {run.worker_id} lives, but its agent has written nothing for "
        f"{sight.seconds_since(run.at_ms)} s; {end}.",
        "Wait, see what the agent waits for, or end it: "
        f"arbe thread cancel {sight.ref} {run.dispatch_id}. Its agent's "
        "`progressTimeoutSeconds` (ARBE_PROGRESS_TIMEOUT_SECONDS) sets the limit.",
    )


def progress_deadline_ms(run: Run, dispatch: Dispatch) -> int | None:
    """Return when a mute run is stopped; None: never."""
    limit_ms = dispatch.policy.progress_ms
    return run.at_ms + limit_ms if limit_ms else None


def ends_by(run: Run) -> str:
    """Name the clock that ends the run, unless it says something first."""
    if run.cancel_deadline_ms == run.over_ms:
        return "cancel"
    return "run_timeout" if run.hard_ms == run.over_ms else "lease"


def _why_over(run: Run, sight: Sight) -> str:
    match ends_by(run):
        case "cancel":
            return "it was asked to end and did not within ARBE_CANCEL_GRACE_SECONDS"
        case "run_timeout":
            return "it reached its hard limit (`runTimeoutSeconds`, ARBE_RUN_TIMEOUT_SECONDS)"
        case _:
            silent_seconds = sight.seconds_since(run.alive_ms)
            return f"it was silent for {silent_seconds} s, longer than its lease"
