"""What a caller is told of a turn, by what stands on its stream."""

import uuid
from typing import Any

import msgspec
import pytest

from dispatch import payloads
from dispatch.ids import DispatchId, EntryId, HouseId, MemberId, ThreadId
from dispatch.models.arc import Code
from dispatch.models.arc_turns import ChatEvent, ChatTurn, Content, Done, Error, Hearing
from dispatch.models.houses import Caller
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    PermissionRequested,
    Resumed,
    Steered,
    StreamRollback,
    Waiting,
)

ENTRY = EntryId("000000000000005_0000000000")
MINE = DispatchId(f"{ENTRY}.0")
OTHER = DispatchId(f"{ENTRY}.1")


def hearing() -> Hearing:
    who = Caller(
        member_id=MemberId(uuid.uuid4()),
        house_id=HouseId(uuid.uuid4()),
        role="member",
        name="Ada",
    )
    turn = ChatTurn(
        who=who,
        chat_id="c",
        thread_id=ThreadId(uuid.uuid4()),
        dispatch_id=MINE,
        entry_id=ENTRY,
        agent="demo",
        chat={"chatId": "c"},
    )
    return Hearing(turn)


def frame(payload: payloads.KnownPayload) -> bytes:
    return b'{"id":"x","at":1,"payload":%s}' % payloads.encode(payload)


def hear(
    *told: payloads.KnownPayload, to: Hearing | None = None, up_to_date: bool = True
) -> list[ChatEvent]:
    return (to or hearing()).hear([frame(each) for each in told], up_to_date=up_to_date)


def chunk(delta: str, *, run: str = "r", number: int = 1, of: str = MINE) -> Chunk:
    return Chunk(kind="text", message_id=f"{of}:{run}:{number}", delta=delta)


def whole(text: str, *, run: str = "r", number: int = 1, of: str = MINE, **more: Any):
    content = [{"type": "text", "text": text}]
    message = {"role": "assistant", "content": content} | more
    return Assistant(message_id=f"{of}:{run}:{number}", turn_index=0, message=message)


def words(events: list[ChatEvent]) -> str:
    return "".join(each.delta for each in events if isinstance(each, Content))


def said(event: ChatEvent) -> str:
    assert isinstance(event, Done)
    text: str = event.chat["message"]["parts"][0]["content"]
    return text


DONE = Completed(dispatch_id=MINE)


def test_a_message_without_chunks_is_one_piece():
    events = hear(whole("hello"), DONE)
    assert events[0] == Content("hello")
    assert said(events[1]) == "hello"


def test_chunks_that_were_gone_are_made_up_for_where_they_were_last():
    assert words(hear(chunk("hel"), whole("hello"), DONE)) == "hello"


def test_chunks_that_were_gone_in_the_middle_are_missing_and_the_message_is_whole():
    events = hear(chunk("he"), chunk("o"), whole("hello"), DONE)
    assert words(events) == "heo"
    assert said(events[-1]) == "hello"


def test_another_agents_words_are_not_told():
    events = hear(chunk("no", of=OTHER), whole("no", of=OTHER), whole("yes"), DONE)
    assert words(events) == "yes"


def test_a_message_that_was_never_finished_is_not_the_answer():
    events = hear(whole("oops", number=1, stopReason="error"), whole("well", number=2), DONE)
    assert words(events) == said(events[-1]) == "well"


def test_a_turn_that_said_nothing_ends_all_the_same():
    (event,) = hear(DONE)
    assert isinstance(event, Done)
    assert "message" not in event.chat


def test_a_turn_that_took_the_message_in_answers_for_it():
    steered = Steered(dispatch_id=MINE, entry_id=ENTRY, into=OTHER, run_id="r", step=1)
    listener = hearing()
    assert hear(steered, to=listener) == []
    events = hear(whole("both", of=OTHER), Completed(dispatch_id=OTHER), to=listener)
    assert said(events[-1]) == "both"


def asked(number: str = "q") -> PermissionRequested:
    return PermissionRequested(
        permission_id=number,
        dispatch_id=MINE,
        agent_id="a",
        kind="permission",
        tool_call_id="call",
        tool_name="run_command",
        arguments={},
        deadline=1,
    )


def test_a_turn_that_waits_is_paused_and_says_for_what():
    waiting = Waiting(dispatch_id=MINE, run_id="r", until=1)
    (event,) = hear(asked(), waiting)
    assert isinstance(event, Done)
    assert event.chat["status"] == "PAUSED"
    assert "run_command" in said(event)


def test_a_turn_that_waited_is_told_on():
    waiting = Waiting(dispatch_id=MINE, run_id="r", until=1)
    events = hear(asked(), waiting, Resumed(dispatch_id=MINE), whole("done"), DONE)
    assert said(events[-1]) == "done"
    listener = hearing()
    assert hear(asked(), waiting, to=listener, up_to_date=False) == []
    assert said(hear(Resumed(dispatch_id=MINE), whole("x"), DONE, to=listener)[-1]) == "x"


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (Failed(dispatch_id=MINE, reason="agent_error", message="ink"), Code.EXECUTION_FAILED),
        (Failed(dispatch_id=MINE, reason="orphaned"), Code.AGENT_UNREACHABLE),
        (Failed(dispatch_id=MINE, reason="never_started"), Code.AGENT_UNREACHABLE),
        (Failed(dispatch_id=MINE, reason="no_progress"), Code.AGENT_TIMEOUT),
        (Cancelled(dispatch_id=MINE, reason="requested"), Code.TASK_CANCELED),
        (StreamRollback(witness="x", kept=None), Code.AGENT_UNREACHABLE),
    ],
)
def test_each_bad_end_has_its_code(end: payloads.KnownPayload, code: Code):
    listener = hearing()
    (event,) = hear(end, to=listener)
    assert isinstance(event, Error)
    assert event.code == code
    assert event.message
    assert event.details["chatId"] == "c"
    assert listener.is_over


def test_a_rollback_behind_the_message_is_none_of_its_business():
    assert hear(StreamRollback(witness="x", kept="000000000000009_0000000000")) == []


def test_what_cannot_be_read_is_passed_over():
    listener = hearing()
    odd = msgspec.json.encode({"payload": {"type": "pi.chunk", "kind": 7, "messageId": MINE}})
    assert listener.hear([odd, b'{"broken' + MINE.encode()], up_to_date=True) == []
