"""The tool ledger: intent before, outcome after, nothing done twice."""

import asyncio
from typing import Any

import pytest

from dispatch import clock
from dispatch.errors import Invalid
from dispatch.ids import EntryId
from dispatch.models.history import HistoryMessage
from dispatch.payloads import llm
from workers.agents import ToolAnswer, ToolCall
from workers.ledger import Ledger
from workers.sandboxes import OnOutput

CALL = ToolCall(id="c1", name="look", arguments={"at": "it"})
ENTRY = EntryId("000000000001000_0000000001")
INTENT: dict[str, Any] = {"content": [{"type": "toolCall", "id": "c1", "name": "look"}]}


class Told(list[Any]):
    async def emit(self, payload: Any) -> None:
        self.append(payload)


async def look(_call: ToolCall, show: OnOutput) -> ToolAnswer:
    await show("loo")
    return ToolAnswer(text="a view", details={"wide": True})


async def never(_call: ToolCall, _show: OnOutput) -> ToolAnswer:
    raise AssertionError("performed again")


def said(role: Any, message: dict[str, Any], entry_id: str = "2") -> HistoryMessage:
    return HistoryMessage(EntryId(entry_id), role, message)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def ledger(told: Told) -> Ledger:
    return Ledger(told.emit, max_text_bytes=100)


async def test_a_call_is_performed_once_and_its_result_stands_after_its_output(
    ledger: Ledger, told: Told
) -> None:
    ledger.announce(INTENT)
    heard: list[str] = []

    async def hear(output: str) -> None:
        heard.append(output)

    answer = await ledger.answer(CALL, look, hear)
    assert await ledger.answer(CALL, never, None) == answer
    chunk, result = told
    assert (chunk.kind, chunk.delta, heard) == ("toolOutput", "loo", ["loo"])
    assert isinstance(result, llm.ToolResult)
    assert result.message["content"] == [{"type": "text", "text": "a view"}]
    assert result.message["details"] == {"wide": True}


async def test_a_call_that_nobody_announced_is_not_performed(ledger: Ledger) -> None:
    with pytest.raises(Invalid, match="not announced"):
        await ledger.answer(CALL, never, None)


async def test_what_an_earlier_attempt_recorded_is_told_again(ledger: Ledger) -> None:
    result = {
        "toolCallId": "c1",
        "content": [{"type": "text", "text": "as it was"}],
        "isError": True,
    }
    asked = HistoryMessage(ENTRY, "user", {"content": []})
    ledger.read([asked, said("assistant", INTENT), said("toolResult", result)], ENTRY)
    answer = await ledger.answer(CALL, never, None)
    assert (answer.text, answer.is_error) == ("as it was", True)


async def test_a_call_of_an_earlier_turn_with_the_same_id_is_another_call(
    ledger: Ledger,
) -> None:
    result = {"toolCallId": "c1", "content": [{"type": "text", "text": "long ago"}]}
    asked = HistoryMessage(ENTRY, "user", {"content": []})
    ledger.read([said("assistant", INTENT), said("toolResult", result), asked], ENTRY)
    ledger.announce(INTENT)
    assert (await ledger.answer(CALL, look, None)).text == "a view"


async def test_what_breaks_is_told_to_the_model_without_secrets(ledger: Ledger) -> None:
    async def breaks(_call: ToolCall, _show: OnOutput) -> ToolAnswer:
        raise RuntimeError("no redis://:hush@host here")

    ledger.announce(INTENT)
    answer = await ledger.answer(CALL, breaks, None)
    assert answer.is_error
    assert answer.text.startswith("RuntimeError")
    assert "hush" not in answer.text


async def test_a_long_answer_keeps_its_end_within_the_limit(ledger: Ledger) -> None:
    async def talks(_call: ToolCall, _show: OnOutput) -> ToolAnswer:
        return ToolAnswer(text="ä" * 200 + "end")

    ledger.announce(INTENT)
    answer = await ledger.answer(CALL, talks, None)
    assert answer.text.startswith("[The last part of 403 bytes]\n")
    assert answer.text.endswith("end")
    assert len(answer.text.encode()) <= 100
    assert answer.details == {"truncated": True, "totalBytes": 403}


async def test_a_result_says_how_long_it_was_performed_not_how_long_somebody_thought(
    told: Told,
) -> None:
    async def think(_call: ToolCall) -> None:
        await asyncio.sleep(0.3)

    ledger = Ledger(told.emit, max_text_bytes=100, permit=think)
    ledger.announce(INTENT)
    before = clock.monotonic_seconds()
    await ledger.answer(CALL, look, None)
    took_ms = 1000 * (clock.monotonic_seconds() - before)
    assert told[-1].duration_ms <= took_ms - 300 + 1


async def test_an_answer_in_its_place_is_recorded_and_nothing_is_performed(told: Told) -> None:
    async def refuse(_call: ToolCall) -> ToolAnswer:
        return ToolAnswer(text="No.", is_error=True)

    ledger = Ledger(told.emit, max_text_bytes=100, permit=refuse)
    ledger.announce(INTENT)
    answer = await ledger.answer(CALL, never, None)
    assert (answer.text, answer.is_error) == ("No.", True)
    assert (told[-1].is_error, told[-1].duration_ms) == (True, None)
