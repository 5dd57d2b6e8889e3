"""The facts behind a verdict on a dispatch, flat and without texts. Pure."""

from typing import Final

from dispatch.ids import DispatchId
from dispatch.models.diagnosis import Evidence, Sight, asks, runs
from dispatch.models.state import Dispatch, Lane, Run
from dispatch.task_names import TURNS_QUEUE

_SHOWN: Final = 10
"""Of what stands before a dispatch, or may steer it, so many are named."""


def of(dispatch_id: DispatchId, dispatch: Dispatch, lane: Lane, sight: Sight) -> Evidence:
    """Return what is known of an open dispatch; what does not apply is left out."""
    agent = sight.agents.get(dispatch.lane)
    facts: Evidence = {
        "agentId": dispatch.lane,
        "agent": f"@{agent.handle}" if agent is not None else None,
        "maxAttempts": dispatch.policy.max_attempts,
        "repeatable": dispatch.policy.repeatable,
        "checkpointId": dispatch.checkpoint_id,
        "nowMs": sight.now_ms,
        "workersAlive": len(sight.living),
    }
    facts |= asks.evidence(dispatch)
    if dispatch_id in lane.queue:
        facts |= _place(dispatch_id, dispatch, lane, sight)
    if lane.run is not None:
        facts |= _run(lane.run, sight)
        if lane.run.dispatch_id == dispatch_id:
            facts["progressDeadlineMs"] = runs.progress_deadline_ms(lane.run, dispatch)
            facts["steering"] = _named(lane.steering(dispatch_id)) or None
    return {name: fact for name, fact in facts.items() if fact is not None}


def broker_queue(dispatch: Dispatch, sight: Sight) -> str:
    """Return the broker queue a dispatch's hints go to."""
    agent = sight.agents.get(dispatch.lane)
    return agent.queue if agent is not None else TURNS_QUEUE


def _place(dispatch_id: DispatchId, dispatch: Dispatch, lane: Lane, sight: Sight) -> Evidence:
    position = lane.queue.index(dispatch_id)
    before = [lane.run.dispatch_id] if lane.run is not None else []
    return {
        "brokerQueue": broker_queue(dispatch, sight),
        "brokerAnswers": sight.broker_answers,
        "queuePosition": position,
        "standsBehind": _named((*before, *lane.queue[:position])),
        "steers": lane.target_of(dispatch_id),
        "waitsSinceMs": lane.since_ms,
        "notBeforeMs": dispatch.not_before_ms or None,
    }


def _run(run: Run, sight: Sight) -> Evidence:
    worker = sight.worker(run.worker_id)
    beat_ms = worker.beat_ms if worker is not None else None
    return {
        "runId": run.run_id,
        "workerId": run.worker_id,
        "workerBeatMs": beat_ms,
        "workerSilentSeconds": sight.seconds_since(beat_ms) if beat_ms is not None else None,
        "lastSignMs": run.alive_ms,
        "lastEventMs": run.at_ms,
        "isWarned": run.warned_ms == run.at_ms,
        "overMs": run.over_ms,
        "secondsLeft": sight.seconds_until(run.over_ms),
        "overBy": runs.ends_by(run),
        "cancelDeadlineMs": run.cancel_deadline_ms,
        "cancelReason": run.cancel_reason or None,
        "effects": run.effects,
    }


def _named(dispatch_ids: tuple[DispatchId, ...]) -> list[str]:
    return [str(each) for each in dispatch_ids[:_SHOWN]]
