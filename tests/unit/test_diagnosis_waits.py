"""Why a dispatch waits, and when its waiting is no longer right."""

import pytest
from msgspec.structs import replace

from dispatch.models.diagnosis import AgentSeen, Worker
from dispatch.models.state import Dispatch, Lane, ThreadState
from tests.unit.test_diagnosis import (
    FIRST,
    LANE,
    MARK,
    NOW,
    POLICY,
    RUN,
    SECOND,
    THIRD,
    WORKER,
    ask,
    state_of,
)


def test_a_queued_dispatch_waits_for_a_worker() -> None:
    found = ask(state_of(Lane((FIRST,), since_ms=NOW - 10_000)))

    assert found.stage == "queued"
    assert (found.evidence["queuePosition"], found.evidence["standsBehind"]) == (0, [])


@pytest.mark.parametrize("beat_ms", [None, NOW - 60_000])
def test_a_long_wait_without_any_worker_is_stalled(beat_ms: int | None) -> None:
    patient, lost = Lane((FIRST,), since_ms=NOW - 20_000), Lane((FIRST,), since_ms=NOW - 21_000)

    assert ask(state_of(patient), beat_ms=beat_ms).stage == "queued"
    assert ask(state_of(lost), beat_ms=beat_ms).stage == "stalled"


def test_a_long_wait_without_the_broker_is_stalled_and_names_it() -> None:
    found = ask(state_of(Lane((FIRST,), since_ms=NOW - 21_000)), broker_answers=False)

    assert found.stage == "stalled"
    assert "BROKER_URL" in found.next_step
    assert [finding.code for finding in found.findings] == ["broker_away"]


def test_a_long_wait_beside_workers_tells_busy_ones_from_idle_ones() -> None:
    state = state_of(Lane((FIRST,), since_ms=NOW - 60_000))
    busy, idle = [Worker(WORKER, NOW, 20)], [Worker(WORKER, NOW, 0)]
    agents = {LANE: AgentSeen("demo", "gpu")}

    assert "ARBE_WORKER_CONCURRENCY" in ask(state, workers=busy).next_step
    found = ask(state, workers=idle, agents=agents)
    assert found.stage == "queued"
    assert "`gpu`" in found.next_step
    assert found.evidence["agent"] == "@demo"


def test_a_long_wait_beside_workers_that_are_all_deaf_is_stalled() -> None:
    state = state_of(Lane((FIRST,), since_ms=NOW - 60_000))
    found = ask(state, workers=[Worker(WORKER, NOW, 0, is_deaf=True)])

    assert found.stage == "stalled"
    assert "hear nothing" in found.cause


def test_a_wait_beyond_the_start_timeout_is_stalled_though_workers_live() -> None:
    found = ask(state_of(Lane((FIRST,), since_ms=NOW - 1_801_000)))

    assert found.stage == "stalled"
    assert "ARBE_START_TIMEOUT_SECONDS" in found.cause


def test_a_dispatch_between_attempts_is_backing_off() -> None:
    found = ask(state_of(Lane((FIRST,), since_ms=NOW), not_before_ms=NOW + 1_500))

    assert found.stage == "backing_off"
    assert "2 s" in found.cause


def test_a_dispatch_behind_a_run_waits_and_shares_its_fate() -> None:
    healthy, silent = Lane((SECOND,), run=RUN), Lane((SECOND,), run=replace(RUN, at_ms=0))

    waiting = ask(state_of(healthy))
    assert (waiting.stage, waiting.dispatch_id) == ("waiting", SECOND)
    assert waiting.evidence["standsBehind"] == [FIRST]
    assert ask(state_of(silent)).stage == "stalled"


def test_a_dispatch_behind_another_waits_and_shares_its_fate() -> None:
    lane = Lane((FIRST, SECOND), since_ms=NOW - 60_000)

    waiting, lost = ask(state_of(lane)), ask(state_of(lane), beat_ms=None)
    assert (waiting.stage, waiting.evidence["queuePosition"]) == ("waiting", 1)
    assert FIRST in waiting.cause
    assert lost.stage == "stalled"


def test_every_lane_with_work_has_its_verdict_the_worst_first() -> None:
    lanes = {
        "fine": Lane(run=replace(RUN, dispatch_id=THIRD)),
        "dead": Lane((SECOND,), run=replace(RUN, at_ms=0)),
        "idle": Lane(),
    }
    dispatches = {
        FIRST: Dispatch("dead", 1, POLICY),
        SECOND: Dispatch("dead", 0, POLICY),
        THIRD: Dispatch("fine", 1, POLICY),
    }
    found = ask(ThreadState(is_open=True, mark=MARK, lanes=lanes, dispatches=dispatches))

    assert (found.stage, found.dispatch_id) == ("running", THIRD)
    assert [(lane.agent_id, lane.stage, lane.queued) for lane in found.lanes] == [
        ("dead", "stalled", 1),
        ("fine", "running", 0),
    ]
