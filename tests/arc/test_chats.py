"""Chats as the operations give them, against a real worker."""

import asyncio
from typing import Any

import pytest

from dispatch.chats.errors import ChatAlreadyClosed, ChatExists, ChatNotFound
from dispatch.errors import Invalid
from dispatch.models.arc import AgentNotFound, ArcError, Code
from dispatch.models.houses import Caller
from dispatch.operations import agents, arc_chats, delete_thread, members
from dispatch.operations.arc_chats import ChatTurn, Content, Done, Error
from dispatch.payloads.chat import Chat
from tests.system.houses import Casa


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "TextPart", "content": text}]}


async def start(casa: Casa, text: str, **more: Any) -> ChatTurn:
    more = {"agent": "@demo"} | more
    return await arc_chats.start(casa.record, casa.who, message=message(text), **more)


async def heard(casa: Casa, turn: ChatTurn, **more: Any) -> list[arc_chats.ChatEvent]:
    return [each async for each in arc_chats.events(casa.record, turn, **more)]


def words(events: list[arc_chats.ChatEvent]) -> str:
    return "".join(each.delta for each in events if isinstance(each, Content))


def text_of(chat: dict[str, Any]) -> str:
    text: str = chat["message"]["parts"][0]["content"]
    return text


async def test_a_chat_is_answered_on_a_thread_of_its_own(casa: Casa):
    turn = await start(casa, "say: hello there", trace_id="t-1")
    chat = await arc_chats.result(casa.record, turn)
    assert text_of(chat) == "hello there"
    assert chat["chatId"] == turn.chat_id
    assert chat["status"] == "ACTIVE"
    row = await casa.row(turn.thread_id)
    assert row.parent_agent_id == casa.agent.id
    assert row.metadata == {"chatId": turn.chat_id}
    entries = await casa.entries(turn.thread_id)
    said = [each.payload for each in entries if isinstance(each.payload, Chat)]
    assert [each.trace_id for each in said] == ["t-1"]


async def test_words_come_as_they_are_said_and_add_up(casa: Casa):
    turn = await start(casa, "say: one two three four five", agent="demo")
    events = await heard(casa, turn)
    assert words(events) == "one two three four five"
    assert isinstance(events[-1], Done)
    assert text_of(events[-1].chat) == words(events)
    # Heard again, when the chunks are gone, it is told the same.
    assert words(await heard(casa, turn)) == words(events)


async def test_several_messages_of_a_turn_are_told_apart(casa: Casa):
    turn = await start(casa, "steps: 2 0.1", agent=str(casa.agent.id))
    events = await heard(casa, turn)
    assert words(events) == "Step 1 of 2.\n\nStep 2 of 2."
    assert isinstance(events[-1], Done)
    assert text_of(events[-1].chat) == "Step 2 of 2."


async def test_the_next_message_goes_on_in_the_same_thread(casa: Casa):
    first = await start(casa, "hello")
    await arc_chats.result(casa.record, first)
    second = await arc_chats.send(
        casa.record, casa.who, chat_id=first.chat_id, message=message("say: again")
    )
    assert second.thread_id == first.thread_id
    assert text_of(await arc_chats.result(casa.record, second)) == "again"


async def test_a_message_under_the_same_key_is_said_once(casa: Casa):
    first = await start(casa, "hello")
    said = [
        await arc_chats.send(
            casa.record, casa.who, chat_id=first.chat_id, message=message("say: x"), key="k"
        )
        for _ in range(2)
    ]
    assert said[0].dispatch_id == said[1].dispatch_id
    answers = [text_of(await arc_chats.result(casa.record, each)) for each in said]
    assert answers == ["x", "x"]


async def test_a_failed_turn_is_an_error_with_a_code(casa: Casa):
    turn = await start(casa, "fail: no paper")
    with pytest.raises(ArcError, match="no paper") as failure:
        await arc_chats.result(casa.record, turn)
    assert failure.value.number == Code.EXECUTION_FAILED
    assert failure.value.details["chatId"] == turn.chat_id


async def test_waiting_ends_and_the_turn_goes_on(casa: Casa):
    turn = await start(casa, "sleep: 3")
    *_, last = await heard(casa, turn, seconds=0.2)
    assert isinstance(last, Error)
    assert last.code == Code.CHAT_TIMEOUT
    assert str(turn.thread_id) in last.message
    assert text_of(await arc_chats.result(casa.record, turn)).endswith("Awake again.")


async def test_ending_a_chat_cancels_its_turn_and_closes_it_once(casa: Casa):
    turn = await start(casa, "sleep: 600")
    await casa.wait_words(turn.thread_id, timeout_seconds=30)
    ends = await asyncio.gather(
        *(arc_chats.end(casa.record, casa.who, chat_id=turn.chat_id) for _ in range(5)),
        return_exceptions=True,
    )
    closed = [each for each in ends if isinstance(each, dict)]
    assert len(closed) == 1
    assert closed[0]["status"] == "CLOSED"
    assert sum(isinstance(each, ChatAlreadyClosed) for each in ends) == 4
    *_, last = await heard(casa, turn)
    assert isinstance(last, Error)
    assert last.code == Code.CHAT_CLOSED
    with pytest.raises(ChatAlreadyClosed):
        await arc_chats.send(
            casa.record, casa.who, chat_id=turn.chat_id, message=message("hello")
        )
    assert (await casa.row(turn.thread_id)).expires_at is None


async def test_a_closed_chats_thread_expires_as_the_agents_config_says(casa: Casa):
    change = agents.AgentChange(config={"chatRetentionSeconds": 3600})
    await agents.update(casa.record, casa.who, casa.agent.id, change)
    turn = await start(casa, "hello")
    await arc_chats.result(casa.record, turn)
    await arc_chats.end(casa.record, casa.who, chat_id=turn.chat_id)
    row = await casa.row(turn.thread_id)
    assert row.expires_at is not None
    assert 0 < (row.expires_at - row.created_at).total_seconds() - 3600 < 600


async def test_an_id_is_given_away_once_and_leaves_no_second_thread(casa: Casa):
    turn = await start(casa, "hello", chat_id="mine")
    assert turn.chat_id == "mine"
    with pytest.raises(ChatExists):
        await start(casa, "hello", chat_id="mine")
    assert text_of(await arc_chats.result(casa.record, turn))


async def test_nobody_else_learns_of_a_chat(casa: Casa):
    turn = await start(casa, "hello", chat_id="mine")
    added = await members.create(casa.record, casa.who, name="Bob")
    other = Caller(member_id=added.id, house_id=casa.who.house_id, role="member", name="Bob")
    with pytest.raises(ChatNotFound):
        await arc_chats.send(casa.record, other, chat_id=turn.chat_id, message=message("hello"))
    with pytest.raises(ChatNotFound):
        await arc_chats.end(casa.record, other, chat_id=turn.chat_id)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "text",
        {},
        {"role": "boss", "parts": [{"type": "TextPart", "content": "x"}]},
        {"role": "user", "parts": []},
        {"role": "user", "parts": ["x"]},
        {"role": "user", "parts": [{"type": "TextPart"}]},
        {"role": "user", "parts": [{"type": "SmellPart", "content": "x"}]},
        {"role": "user", "parts": [{"type": "TextPart", "content": " "}]},
    ],
)
async def test_a_message_that_is_none_is_refused(casa: Casa, bad: Any):
    with pytest.raises(Invalid):
        await arc_chats.start(casa.record, casa.who, agent="demo", message=bad)


async def test_an_unknown_agent_is_named(casa: Casa):
    with pytest.raises(AgentNotFound):
        await start(casa, "hello", agent="nobody")


async def test_a_deleted_thread_takes_its_chat_along(casa: Casa):
    turn = await start(casa, "hello")
    await arc_chats.result(casa.record, turn)
    await delete_thread.delete_thread(casa.record, casa.who, turn.thread_id)
    with pytest.raises(ChatNotFound):
        await arc_chats.send(
            casa.record, casa.who, chat_id=turn.chat_id, message=message("hello")
        )
