from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from dispatch import payloads
from dispatch.errors import Invalid
from dispatch.ids import EntryId
from dispatch.models.fold import fold, step
from dispatch.models.state import ThreadState, from_fields, to_fields
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    Checkpoint,
    Completed,
    Failed,
    FellThrough,
    Heartbeat,
    NoProgress,
    Queued,
    Released,
    RolledBack,
    RunLost,
    SessionOrphaned,
    Started,
    Steered,
    StreamRollback,
    ThreadCreated,
)

LANE = "01a1fb73-fe9b-7764-b984-12b7b0c808da"


class Said(NamedTuple):
    id: EntryId
    payload: payloads.Payload
    seq: int | None = None
    writer: str | None = None


class Broken(NamedTuple):
    id: EntryId
    seq: int | None = None
    writer: str | None = None

    @property
    def payload(self) -> payloads.Payload:
        raise Invalid("no JSON")


def entry_id(number: int) -> EntryId:
    return EntryId(f"{1000 + number:015d}_0000000000")


CHAT = Chat(by=Author("member", "m"), text="hi")
STARTED = Started(
    dispatch_id="d.0",
    agent_id=LANE,
    attempt=1,
    run_id="r1",
    worker_id="w",
    lease_ms=90,
    hard_ms=9000,
)
LIFE = [
    Said(entry_id(1), ThreadCreated(), 1),
    Said(entry_id(2), CHAT, 2),
    Said(
        entry_id(3), Queued(dispatch_id="d.0", entry_id="e", agent_id=LANE, max_attempts=3), 3
    ),
    Said(entry_id(4), STARTED, 4),
    Said(entry_id(5), Heartbeat(dispatch_id="d.0", run_id="r1"), None, "r1:0"),
    Said(entry_id(6), Chunk(kind="text", message_id="m", delta="a"), None, "r1:1"),
    Said(entry_id(7), Heartbeat(dispatch_id="d.0", run_id="r1"), None, "r1:0"),
    Said(entry_id(8), Assistant(message_id="m", turn_index=0, message={}), 5, "r1:2"),
]


def test_the_end_of_a_run_leaves_an_idle_lane() -> None:
    state = fold([*LIFE, Said(entry_id(9), Completed(dispatch_id="d.0"), 6, "r1:3")])

    assert not state.has_work
    assert state.outcome == "completed"
    assert state.seq == 6
    assert state.lanes[LANE].last is not None
    assert state.lanes[LANE].last.fence == "d.0,1,r1"


def test_vanished_chunks_and_heartbeats_change_nothing() -> None:
    assert fold([*LIFE[:4], *LIFE[6:]]) == fold(LIFE)


def test_an_unknown_payload_counts_as_a_sign_of_life_only() -> None:
    before = fold(LIFE)

    after = step(before, Said(entry_id(9), payloads.Unknown("x.y", b"{}"), 6, "r1:3"))

    run = after.lanes[LANE].run
    assert run is not None
    assert (after.seq, run.n, run.at_ms) == (6, 3, 1009)
    assert after.mark == before.mark


def test_an_unknown_pi_payload_counts_as_an_effect() -> None:
    after = step(
        fold(LIFE[:4]), Said(entry_id(5), payloads.Unknown("pi.new", b"{}"), 5, "r1:1")
    )

    run = after.lanes[LANE].run
    assert run is not None
    assert run.effects


def test_an_unreadable_entry_is_passed_over() -> None:
    after = step(fold(LIFE), Broken(entry_id(9), 6, "r1:3"))

    assert after.seq == 6


def test_the_fold_goes_on_from_any_prefix() -> None:
    for cut in range(len(LIFE)):
        assert fold(LIFE[cut:], fold(LIFE[:cut])) == fold(LIFE)


def test_a_tombstone_and_nothing_read_as_no_stream() -> None:
    assert from_fields({}) == ThreadState()
    assert from_fields({"deleted": "17"}) == ThreadState()
    assert to_fields(ThreadState()) == {}


def test_fields_of_a_newer_version_are_ignored() -> None:
    fields = to_fields(fold(LIFE))

    assert from_fields(fields | {"shard": "1", f"mood:{LANE}": "good"}) == fold(LIFE)


dispatches = st.sampled_from(["d.0", "d.1"])
runs = st.sampled_from(["r1", "r2"])
anything = st.one_of(
    st.just(CHAT),
    st.just(ThreadCreated()),
    st.builds(
        Queued,
        dispatch_id=dispatches,
        entry_id=st.just("e"),
        agent_id=st.sampled_from([LANE, "not a uuid"]),
        max_attempts=st.integers(0, 3),
    ),
    st.builds(
        Started,
        dispatch_id=dispatches,
        agent_id=st.just(LANE),
        attempt=st.integers(0, 3),
        run_id=runs,
        worker_id=st.just("w"),
        lease_ms=st.integers(0, 100),
        hard_ms=st.integers(0, 10**13),
    ),
    st.builds(Heartbeat, dispatch_id=dispatches, run_id=runs),
    st.builds(Released, dispatch_id=dispatches, run_id=runs),
    st.builds(
        RunLost,
        dispatch_id=dispatches,
        run_id=runs,
        attempt=st.integers(0, 3),
        not_before=st.integers(0, 10**13),
    ),
    st.builds(
        Queued,
        dispatch_id=dispatches,
        entry_id=st.just("e"),
        agent_id=st.just(LANE),
        max_attempts=st.integers(0, 3),
        first=st.booleans(),
        steers=st.none() | dispatches,
        repeatable=st.booleans(),
    ),
    st.builds(Checkpoint, dispatch_id=dispatches, run_id=runs, state=st.just({})),
    st.builds(
        Steered,
        dispatch_id=dispatches,
        entry_id=st.just("e"),
        into=dispatches,
        run_id=runs,
        step=st.just(1),
    ),
    st.builds(FellThrough, dispatch_id=dispatches, entry_id=st.just("e"), target=dispatches),
    st.builds(RolledBack, dispatch_id=dispatches, entry_id=st.just("e")),
    st.builds(NoProgress, dispatch_id=dispatches, run_id=runs, since_ms=st.integers(0, 10**13)),
    st.builds(StreamRollback, witness=st.just("w"), was_running=st.booleans()),
    st.builds(CancelRequested, dispatch_id=dispatches, deadline=st.integers(0, 10**13)),
    st.builds(Completed, dispatch_id=dispatches),
    st.builds(Failed, dispatch_id=dispatches, reason=st.just("x")),
    st.builds(Cancelled, dispatch_id=dispatches, reason=st.just("x")),
    st.builds(SessionOrphaned, dispatch_id=dispatches, reason=st.just("x")),
)
writers = (
    st.none()
    | st.builds("{}:{}".format, runs, st.integers(0, 9))
    | st.sampled_from(["r1:x", "r1", ":"])
)


@given(st.lists(st.tuples(anything, writers), max_size=20))
def test_any_entries_in_any_order_have_a_fold_that_reads_back(said: list) -> None:
    entries = [
        Said(entry_id(number), payload, number + 1, writer)
        for number, (payload, writer) in enumerate(said)
    ]

    state = fold(entries)

    assert from_fields(to_fields(state)) == state
    assert fold(entries) == state
