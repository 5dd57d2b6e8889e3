from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from dispatch import ids, payloads
from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.ids import DispatchId, EntryId, HouseId, RunId, ThreadId, WorkerId
from dispatch.models.diagnosis import Diagnosis, Sight, Worker
from dispatch.models.diagnosis.threads import diagnose
from dispatch.models.state import Dispatch, Lane, Run, Steering, ThreadState
from dispatch.models.threads import Thread
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Chunk
from dispatch.payloads.policy import DispatchPolicy
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    Heartbeat,
    Queued,
    RolledBack,
    Started,
    Steered,
)

NOW = 1_700_000_000_000
POLICY = DispatchPolicy(max_attempts=3)
LANE = "agent"
WORKER = WorkerId("host.1.a")
FIRST = DispatchId("001700000000000_0000000001.0")
SECOND = DispatchId("001700000000000_0000000009.0")
THIRD = DispatchId("001700000000000_0000000012.0")
MARK = EntryId("001699999000000_0000000003")
THREAD_ID = ThreadId(ids.uuid7())
RUN = Run(
    dispatch_id=FIRST,
    attempt=1,
    run_id=RunId("run"),
    worker_id=WORKER,
    started_id=EntryId("001700000000000_0000000002"),
    at_ms=NOW - 2_000,
    lease_ms=90_000,
    hard_ms=NOW + 7_000_000,
)


class Said(NamedTuple):
    content: payloads.Payload | Exception
    id: EntryId = EntryId("001699999999000_0000000003")
    seq: int | None = 3
    writer: str | None = None

    @property
    def payload(self) -> payloads.Payload:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


def row(*, status: str = "open", stream_id: str = MARK) -> Thread:
    return Thread(
        id=THREAD_ID,
        house_id=HouseId(ids.uuid7()),
        status=status,
        stream_id=EntryId(stream_id),
        created_at=datetime.now(UTC),
        updated_at=datetime.now(UTC),
    )


def state_of(
    lane: Lane,
    *,
    attempt: int = 1,
    not_before_ms: int = 0,
    policy: DispatchPolicy = POLICY,
) -> ThreadState:
    live = [*lane.queue, *([lane.run.dispatch_id] if lane.run else [])]
    return ThreadState(
        is_open=True,
        mark=MARK,
        lanes={LANE: lane},
        dispatches={one: Dispatch(LANE, attempt, policy, not_before_ms) for one in live},
    )


def ask(
    state: ThreadState, *said: Said | payloads.Payload, beat_ms: int | None = NOW, **more: Any
) -> Diagnosis:
    workers = [] if beat_ms is None else [Worker(WORKER, beat_ms, 1)]
    recent = [each if isinstance(each, Said) else Said(each) for each in said]
    sight = Sight(now_ms=NOW, patience=Settings(), **{"workers": workers, **more})
    return diagnose(state, recent, sight)


def running(**changes: object) -> ThreadState:
    return state_of(Lane(run=replace(RUN, **changes)))


def test_a_thread_where_nothing_was_asked_is_idle() -> None:
    assert ask(ThreadState(is_open=True)).stage == "idle"


def test_a_beating_run_is_running_and_its_lease_is_told() -> None:
    found = ask(running())

    assert (found.stage, found.dispatch_id, found.attempt) == ("running", FIRST, 1)
    assert found.evidence["workerId"] == WORKER
    assert found.evidence["workerSilentSeconds"] == 0
    assert (found.evidence["secondsLeft"], found.evidence["overBy"]) == (88, "lease")


@pytest.mark.parametrize(
    ("changes", "beat_ms", "words"),
    [
        ({"at_ms": NOW - 90_000}, NOW, "longer than its lease"),
        ({"hard_ms": NOW}, NOW, "ARBE_RUN_TIMEOUT_SECONDS"),
        ({"cancel_deadline_ms": NOW}, NOW, "ARBE_CANCEL_GRACE_SECONDS"),
        ({}, NOW - 15_001, "no sign of life"),
    ],
    ids=["lease over", "hard limit over", "cancel grace over", "worker dead"],
)
def test_a_run_that_cannot_go_on_is_stalled(changes: dict, beat_ms: int, words: str) -> None:
    found = ask(running(**changes), beat_ms=beat_ms)

    assert found.stage == "stalled"
    assert words in found.cause
    assert found.next_step


def test_a_worker_that_is_not_known_is_not_called_dead() -> None:
    found = ask(running(), beat_ms=None)

    assert found.stage == "running"
    assert "workerBeatMs" not in found.evidence


def test_a_run_that_was_asked_to_end_is_cancelling() -> None:
    found = ask(running(cancel_deadline_ms=NOW + 4_500))

    assert found.stage == "cancelling"
    assert "5 s" in found.next_step


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("requested", "somebody asked for it"),
        ("cascade", "what it works for"),
        ("interrupted", "takes its place"),
        ("rolled_back", "undoes it"),
        ("no_progress", "mute"),
        ("a_newer_word", "a_newer_word"),
    ],
)
def test_a_cancelling_run_says_why(reason: str, words: str) -> None:
    found = ask(running(cancel_deadline_ms=NOW + 4_500, cancel_reason=reason))

    assert found.stage == "cancelling"
    assert words in found.cause
    assert found.evidence["cancelReason"] == reason


def test_a_beating_run_whose_agent_was_warned_makes_no_progress() -> None:
    mute = {"at_ms": NOW - 300_000, "beat_id": EntryId(f"{NOW - 1_000:015d}_0000000000")}
    warned = ask(running(**mute, warned_ms=NOW - 300_000))

    assert warned.stage == "no_progress"
    assert "stopped in 600 s" in warned.cause
    assert "progressTimeoutSeconds" in warned.next_step
    assert warned.evidence["progressDeadlineMs"] == NOW + 600_000
    assert ask(running(**mute)).stage == "running"
    assert ask(running(warned_ms=NOW - 300_000)).stage == "running"


def test_a_mute_run_without_a_limit_is_never_stopped() -> None:
    state = state_of(
        Lane(run=replace(RUN, warned_ms=RUN.at_ms)),
        policy=DispatchPolicy(max_attempts=3, progress_ms=0),
    )

    assert "never stopped" in ask(state).cause


def test_a_steering_dispatch_waits_to_join_the_running_turn() -> None:
    lane = Lane((SECOND, THIRD), run=RUN, steer=(Steering(SECOND, FIRST),))
    found = ask(state_of(lane), beat_ms=NOW)

    assert (found.stage, found.dispatch_id) == ("waiting", THIRD)
    assert "join" not in found.cause
    steering = ask(state_of(replace(lane, queue=(SECOND,))))
    assert "join its turn" in steering.cause
    assert steering.evidence["steers"] == FIRST
    assert found.lanes[0].evidence["steering"] == [SECOND]


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


def test_a_dispatch_that_was_undone_is_rolled_back() -> None:
    found = ask(
        ThreadState(is_open=True),
        Cancelled(dispatch_id=FIRST, reason="cancel_grace"),
        RolledBack(dispatch_id=FIRST, entry_id="e"),
    )

    assert found.stage == "rolled_back"


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


def test_what_was_taken_into_a_turn_shares_its_fate() -> None:
    taken = (
        Steered(dispatch_id=SECOND, entry_id="e", into=FIRST, run_id=RUN.run_id, step=1),
        Queued(dispatch_id=SECOND, entry_id="e", agent_id=LANE, max_attempts=3),
    )
    found = ask(running(), *taken)
    assert (found.stage, found.dispatch_id) == ("running", FIRST)
    found = ask(
        ThreadState(is_open=True), Failed(dispatch_id=FIRST, reason="agent_error"), *taken
    )
    assert (found.stage, found.dispatch_id) == ("failed", FIRST)


def test_an_ending_out_of_sight_is_told_by_the_outcome() -> None:
    assert ask(ThreadState(is_open=True, outcome="orphaned")).stage == "failed"


def test_a_stream_shorter_than_its_row_remembers_is_forgotten() -> None:
    later = row(stream_id="001699999000000_0000000004")

    shorter, missing = ask(running(), row=later), ask(ThreadState(), row=later)
    assert shorter.stage == missing.stage == "stalled"
    assert f"ends at {MARK}" in shorter.cause
    assert "is missing" in missing.cause
    assert f"arbe thread reconcile {THREAD_ID}" in missing.next_step


def test_a_thread_that_never_had_a_stream_is_idle() -> None:
    assert ask(ThreadState(), row=row(stream_id="")).stage == "idle"


def test_a_row_that_lags_is_found_once_it_is_old() -> None:
    said = ThreadState(is_open=True, mark=MARK, outcome="completed")
    fresh = replace(said, mark=EntryId(f"{NOW - 1_000:015d}_0000000000"))
    lagging = row(status="running", stream_id="000000000000001_0000000000")

    assert [finding.code for finding in ask(said, row=lagging).findings] == ["row_lags"]
    assert not ask(fresh, row=lagging).findings
    assert not ask(said, row=row()).findings


def test_an_open_row_above_a_queue_is_no_lag() -> None:
    queued = state_of(Lane((FIRST,), since_ms=NOW - 10_000))

    assert not ask(queued, row=row(status="open")).findings


def test_the_last_entries_are_told_without_what_they_say() -> None:
    said = [
        Said(Failed(dispatch_id=FIRST, reason="orphaned", message="secret"), seq=9),
        Said(Heartbeat(dispatch_id=FIRST, run_id="run"), seq=None),
        Said(Chunk(kind="text", message_id="m", delta="secret"), seq=None),
        Said(Chunk(kind="text", message_id="m", delta="secret"), seq=None),
        Said(Invalid("unreadable"), seq=8),
        Said(Chat(by=Author("member", "1", "Ada"), text="secret"), seq=7),
    ]
    events = ask(ThreadState(is_open=True), *said).events

    assert [event.type for event in events] == [
        "signal.dispatch.failed",
        "signal.dispatch.heartbeat",
        "pi.chunk",
        "unreadable",
        "chat",
    ]
    assert (events[0].reason, events[0].ago_seconds) == ("orphaned", 1)
    assert "secret" not in str(events)


def test_only_the_last_entries_are_told() -> None:
    started = Started(
        dispatch_id=FIRST,
        agent_id=LANE,
        attempt=1,
        run_id="run",
        worker_id=WORKER,
        lease_ms=1,
        hard_ms=1,
    )
    assert len(ask(ThreadState(is_open=True), *[Said(started)] * 20).events) == 8
