from typing import NamedTuple

import pytest
from msgspec.structs import replace

from dispatch import payloads
from dispatch.config import Settings
from dispatch.ids import DispatchId, EntryId, RunId, WorkerId
from dispatch.models.diagnosis import Diagnosis, diagnose, worker_of
from dispatch.models.state import Dispatch, Lane, Run, ThreadState
from dispatch.payloads.signals import Cancelled, Completed, Failed, Queued

NOW = 1_700_000_000_000
LANE = "agent"
FIRST = DispatchId("001700000000000_0000000001.0")
SECOND = DispatchId("001700000000000_0000000009.0")
RUN = Run(
    dispatch_id=FIRST,
    attempt=1,
    run_id=RunId("run"),
    worker_id=WorkerId("host.1.a"),
    started_id=EntryId("001700000000000_0000000002"),
    at_ms=NOW - 2_000,
    lease_ms=90_000,
    hard_ms=NOW + 7_000_000,
)


class Said(NamedTuple):
    payload: payloads.Payload
    id: EntryId = EntryId("001700000000000_0000000003")
    seq: int | None = 3
    writer: str | None = None


def state_of(lane: Lane, *, attempt: int = 1, not_before_ms: int = 0) -> ThreadState:
    live = [*lane.queue, *([lane.run.dispatch_id] if lane.run else [])]
    return ThreadState(
        is_open=True,
        lanes={LANE: lane},
        dispatches={one: Dispatch(LANE, attempt, 3, not_before_ms) for one in live},
    )


def ask(state: ThreadState, *said: payloads.Payload, beat_ms: int | None = NOW) -> Diagnosis:
    return diagnose(
        state,
        [Said(payload) for payload in said],
        now_ms=NOW,
        patience=Settings(),
        worker_beat_ms=beat_ms,
    )


def running(**changes: object) -> ThreadState:
    return state_of(Lane(run=replace(RUN, **changes)))


def test_a_thread_where_nothing_was_asked_is_idle() -> None:
    assert ask(ThreadState(is_open=True)).stage == "idle"


def test_a_beating_run_is_running() -> None:
    found = ask(running())

    assert (found.stage, found.dispatch_id, found.attempt) == ("running", FIRST, 1)
    assert worker_of(running()) == RUN.worker_id


@pytest.mark.parametrize(
    ("changes", "beat_ms"),
    [
        ({"at_ms": NOW - 90_000}, NOW),
        ({"hard_ms": NOW}, NOW),
        ({"cancel_deadline_ms": NOW}, NOW),
        ({}, NOW - 15_001),
    ],
    ids=["lease over", "hard limit over", "cancel grace over", "worker dead"],
)
def test_a_run_that_cannot_go_on_is_stalled(changes: dict, beat_ms: int) -> None:
    found = ask(running(**changes), beat_ms=beat_ms)

    assert found.stage == "stalled"
    assert found.next_step


def test_a_worker_that_is_not_known_is_not_called_dead() -> None:
    assert ask(running(), beat_ms=None).stage == "running"


def test_a_run_that_was_asked_to_end_is_cancelling() -> None:
    assert ask(running(cancel_deadline_ms=NOW + 5)).stage == "cancelling"


def test_a_queued_dispatch_waits_for_a_worker() -> None:
    lane = Lane((FIRST,), since_ms=NOW - 60_000)

    assert ask(state_of(lane)).stage == "queued"
    assert worker_of(state_of(lane)) is None


@pytest.mark.parametrize("beat_ms", [None, NOW - 60_000])
def test_a_long_wait_without_any_worker_is_stalled(beat_ms: int | None) -> None:
    patient, lost = Lane((FIRST,), since_ms=NOW - 20_000), Lane((FIRST,), since_ms=NOW - 21_000)

    assert ask(state_of(patient), beat_ms=beat_ms).stage == "queued"
    assert ask(state_of(lost), beat_ms=beat_ms).stage == "stalled"


def test_a_dispatch_between_attempts_is_backing_off() -> None:
    found = ask(state_of(Lane((FIRST,), since_ms=NOW), not_before_ms=NOW + 1_500))

    assert found.stage == "backing_off"
    assert "2 s" in found.cause


def test_a_dispatch_behind_a_run_shares_its_fate() -> None:
    healthy, silent = Lane((SECOND,), run=RUN), Lane((SECOND,), run=replace(RUN, at_ms=0))

    assert ask(state_of(healthy)).stage == "queued"
    assert ask(state_of(healthy)).dispatch_id == SECOND
    assert ask(state_of(silent)).stage == "stalled"


@pytest.mark.parametrize(
    ("terminal", "stage"),
    [
        (Completed(dispatch_id=FIRST), "completed"),
        (Failed(dispatch_id=FIRST, reason="agent_error", message="no such model"), "failed"),
        (Failed(dispatch_id=FIRST, reason="orphaned"), "failed"),
        (Cancelled(dispatch_id=FIRST, reason="cancel_grace"), "cancelled"),
    ],
)
def test_an_ended_dispatch_says_how(terminal: payloads.Payload, stage: str) -> None:
    found = ask(ThreadState(is_open=True), terminal)

    assert (found.stage, found.dispatch_id) == (stage, FIRST)
    assert found.cause
    assert found.next_step


def test_the_agents_own_words_are_told() -> None:
    failed = Failed(dispatch_id=FIRST, reason="agent_error", message="no such model")

    assert "no such model" in ask(ThreadState(is_open=True), failed).cause


def test_the_last_dispatch_speaks_not_the_last_to_end() -> None:
    found = ask(
        ThreadState(is_open=True),
        Failed(dispatch_id=FIRST, reason="agent_error"),
        Completed(dispatch_id=SECOND),
        Queued(dispatch_id=SECOND, entry_id="e", agent_id=LANE, max_attempts=3),
    )

    assert (found.stage, found.dispatch_id) == ("completed", SECOND)


def test_an_ending_out_of_sight_is_told_by_the_outcome() -> None:
    assert ask(ThreadState(is_open=True, outcome="orphaned")).stage == "failed"
