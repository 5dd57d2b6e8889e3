import itertools
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch import payloads
from dispatch.ids import DispatchId, EntryId
from dispatch.models import stats
from dispatch.models.stats import Counts, LastRun
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    Queued,
    Started,
    Steered,
    ThreadRenamed,
)

LANE = "01a1fb73-fe9b-7764-b984-12b7b0c808da"


class Said(NamedTuple):
    id: EntryId
    payload: payloads.Payload
    seq: int | None
    writer: str | None = None


def place(number: int) -> EntryId:
    return EntryId(f"{1000 + number:015d}_0000000000")


def dispatch(number: int) -> DispatchId:
    return DispatchId(f"{place(number)}.0")


def stream(*said: payloads.Payload) -> list[Said]:
    return [
        Said(place(number), each, None if isinstance(each, Chunk) else number)
        for number, each in enumerate(said)
    ]


def queued(number: int) -> Queued:
    return Queued(
        dispatch_id=dispatch(number),
        entry_id=place(number),
        agent_id=LANE,
        max_attempts=3,
    )


def started(number: int) -> Started:
    return Started(
        dispatch_id=dispatch(number),
        agent_id=LANE,
        attempt=1,
        run_id="r",
        worker_id="w",
        lease_ms=1,
        hard_ms=1,
    )


CHAT = Chat(by=Author("member", "m"), text="hi")
SPOKEN = Assistant(message_id="m", turn_index=0, message={})


def test_messages_are_chats_and_answers_and_the_last_run_has_its_story() -> None:
    told = stats.count(
        stream(
            ThreadRenamed(name="n"),
            CHAT,
            queued(1),
            started(1),
            Chunk(kind="text", message_id="m", delta="a"),
            SPOKEN,
            Completed(dispatch_id=dispatch(1), run_id="r"),
        )
    )
    assert (told.entries, told.messages, told.runs) == (6, 2, 1)
    assert told.last_run == LastRun(
        dispatch_id=dispatch(1),
        agent_id=LANE,
        started_at=1003,
        ended_at=1006,
        end="completed",
    )
    assert told.last_run.queued_at == 1001


def test_the_last_run_is_the_youngest_whoever_ends_last() -> None:
    told = stats.count(
        stream(
            CHAT, queued(0), queued(1), started(0), Failed(dispatch_id=dispatch(0), reason="x")
        )
    )
    assert told.last_run == LastRun(dispatch_id=dispatch(1), agent_id=LANE)


WORDS = st.one_of(
    st.sampled_from([CHAT, SPOKEN, ThreadRenamed(name="n")]),
    st.integers(0, 3).map(queued),
    st.integers(0, 3).map(started),
    st.integers(0, 3).map(lambda n: Completed(dispatch_id=dispatch(n), run_id="r")),
    st.integers(0, 3).map(lambda n: Cancelled(dispatch_id=dispatch(n), reason="requested")),
    st.integers(0, 3).map(
        lambda n: Steered(
            dispatch_id=dispatch(n), entry_id=place(n), into="d.0", run_id="r", step=1
        )
    ),
)


@given(st.lists(WORDS, max_size=12), st.lists(st.integers(0, 12), max_size=3))
def test_counts_of_parts_add_up_wherever_a_stream_is_cut(said, cuts) -> None:
    whole = stream(*said)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    parts = [stats.count(whole[start:end]) for start, end in itertools.pairwise(edges)]
    assert sum(parts, Counts()) == stats.count(whole)


def test_a_count_goes_through_json_for_whoever_keeps_it() -> None:
    told = stats.count(stream(CHAT, queued(0)))
    assert msgspec.json.decode(msgspec.json.encode(told), type=Counts) == told


@pytest.mark.parametrize("number", [9, 10, 11])
def test_the_tenth_agent_of_an_entry_is_younger_than_the_ninth(number: int) -> None:
    runs = [
        Counts(last_run=LastRun(dispatch_id=DispatchId(f"{place(1)}.{each}")))
        for each in (9, number)
    ]
    assert sum(runs, Counts()).last_run.dispatch_id == f"{place(1)}.{number}"
