"""The parts of the runner `pi` that need no pi."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dispatch.ids import EntryId, entry_id_of
from dispatch.models.history import HistoryMessage
from dispatch.payloads import llm
from dispatch.payloads.signals import Retrying
from dispatch.payloads.usage import TokenUsage
from tests.agents.pi import installs
from tests.agents.pi.hands import ThreadHands
from workers.agents.pi import failures, process, records, session
from workers.agents.pi.bridge import Bridge
from workers.agents.pi.events import Mapper, Progress
from workers.agents.pi.process import LineTooLong
from workers.agents.pi.settlement import Settlement
from workers.outcomes import Completed, Failed

RECORDED = Path(__file__).with_name("recorded")
RUN = "1000-1"


# --- framing ----------------------------------------------------------------------------------


async def lines_of(script: str, tmp_path: Path) -> list[bytes]:
    started = await process.start(
        [sys.executable, "-c", script], environment={}, folder=tmp_path
    )
    try:
        return [line async for line in started.lines()]
    finally:
        await started.end()


async def test_lines_end_with_a_line_feed_alone(tmp_path: Path) -> None:
    text = '{"a":"x\u2028y\u2029z\x85"}\r\n\n{"b":1}\nrest'
    found = await lines_of(f"import sys; sys.stdout.buffer.write({text.encode()!r})", tmp_path)

    assert found == ['{"a":"x\u2028y\u2029z\x85"}'.encode(), b"", b'{"b":1}']


async def test_long_lines_come_whole_and_the_longest_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys; sys.stdout.write('x' * 3_000_000 + '\\n')"
    assert [len(each) for each in await lines_of(script, tmp_path)] == [3_000_000]

    monkeypatch.setattr(process, "MAX_LINE_BYTES", 1_000_000)
    with pytest.raises(LineTooLong):
        await lines_of(script, tmp_path)


def test_what_cannot_be_read_is_nothing_and_what_is_unknown_is_skipped() -> None:
    for line in (b"", b"{", b"[]", b"null", b'{"type":3}'):
        assert records.decode(line) is None
    found = records.decode(b'{"type":"of_tomorrow","message":{"role":"x"},"more":[{}]}')
    assert found is not None
    assert found.type == "of_tomorrow"


# --- mapping ----------------------------------------------------------------------------------


async def nothing_kept(_: str | None) -> EntryId | None:
    return None


async def replay(hands: ThreadHands, lines: Sequence[bytes]) -> Mapper:
    mapper = Mapper(hands.request(), hands, nothing_kept)
    for line in lines:
        record = records.decode(line)
        assert record is not None
        if record.type == "tool_execution_start" and b'"run_command"' in line:
            await mapper.perform("c1")
        await mapper.take(record)
    return mapper


@pytest.mark.parametrize("version", installs.EVERY)
async def test_a_recorded_turn_reads_the_same_of_every_version(
    version: str, hands: ThreadHands
) -> None:
    hands.ask("What is there?")
    lines = (RECORDED / f"pi-{version}.jsonl").read_bytes().split(b"\n")[:-1]
    mapper = await replay(hands, lines)

    assert hands.stops == ["error", "toolUse", "stop"]
    assert hands.said == ["Let me look.", "Two\u2028files."]
    assert hands.chunks("text") == "Let me look.Two\u2028files."
    assert hands.chunks("thinking") == "Hm."
    (retry,) = hands.of(Retrying)
    assert (retry.attempt, retry.max_attempts) == (1, 3)
    assert [each.tool_call_id for each in hands.of(llm.ToolResult)] == ["c1", "c2"]
    assert [each.arguments for each in hands.of(llm.Chunk) if each.kind == "toolCall"] == [
        {"command": "ls"}, {},
    ]  # fmt: skip
    assert [each.turn_index for each in hands.of(llm.Assistant)] == [0, 1, 2]
    names = [each.message_id.rpartition(":")[2] for each in hands.of(llm.Assistant)]
    assert names == ["1", "2", "3"]
    assert mapper.usage == TokenUsage(1200, 40, 800, 0, 2040)
    assert failures.outcome(mapper.last, mapper.usage) == Completed(usage=mapper.usage)
    assert msgspec.convert(hands.checkpoint, Progress) == Progress(3, mapper.usage)


async def test_another_attempt_counts_on_from_the_checkpoint(hands: ThreadHands) -> None:
    hands.ask("Go.")
    hands.checkpoint = msgspec.to_builtins(Progress(4, TokenUsage(input=7)))
    message = {
        "role": "assistant", "content": [], "stopReason": "stop",
        "usage": {"input": 1, "output": None, "cost": 3},
    }  # fmt: skip
    raw = msgspec.json.encode(message)
    mapper = await replay(
        hands,
        [
            b'{"type":"message_start","message":%b}' % raw,
            b'{"type":"message_end","message":%b}' % raw,
        ],
    )

    assert hands.of(llm.Assistant)[0].message_id.endswith(":5")
    assert mapper.usage == TokenUsage(input=7), "a usage that cannot be read counts as nothing"


@pytest.mark.parametrize(
    ("message", "reason", "retryable"),
    [
        ("500: boom", "provider_error", True),
        ('429: {"message":"slow down"}', "rate_limited", True),
        ("429 insufficient_quota", "provider_error", False),
        ("401 invalid api key", "provider_error", False),
        ("Connection error.", "provider_error", True),
        ("Request timed out.", "provider_error", True),
    ],
)
def test_what_another_try_would_meet_again_is_not_tried_again(
    message: str, reason: str, retryable: bool
) -> None:
    found = failures.outcome({"stopReason": "error", "errorMessage": message}, TokenUsage())

    assert isinstance(found, Failed)
    assert (found.reason, found.retryable) == (reason, retryable)


# --- settlement -------------------------------------------------------------------------------


class Barrier:
    def __init__(self) -> None:
        self.number = 0

    async def ask(self) -> str:
        self.number += 1
        return f"b{self.number}"

    def answer(self, *, pending: int = 0) -> dict[str, Any]:
        data = {"isStreaming": False, "pendingMessageCount": pending}
        return {"type": "response", "id": f"b{self.number}", "success": True, "data": data}


async def tell(settlement: Settlement, *found: dict[str, Any]) -> None:
    for each in found:
        record = records.decode(msgspec.json.encode(each))
        assert record is not None
        await settlement.take(record)


END: dict[str, Any] = {"type": "agent_end"}
START: dict[str, Any] = {"type": "agent_start"}
RETRY: dict[str, Any] = {"type": "auto_retry_start", "attempt": 1}


async def test_an_old_pi_is_done_when_nothing_follows_its_end() -> None:
    barrier = Barrier()
    settlement = Settlement(tells=False, ask_state=barrier.ask)
    await tell(settlement, START, END)
    assert not settlement.done.is_set()
    await tell(settlement, barrier.answer())
    assert settlement.done.is_set()


async def test_an_old_pi_that_tries_again_is_not_done() -> None:
    barrier = Barrier()
    settlement = Settlement(tells=False, ask_state=barrier.ask)
    await tell(settlement, START, END, RETRY)
    await tell(settlement, barrier.answer())
    assert not settlement.done.is_set()
    await tell(settlement, START, END)
    await tell(settlement, barrier.answer())
    assert settlement.done.is_set()


async def test_an_old_pi_that_gives_up_or_forgets_to_go_on_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.agents.pi.settlement.GOES_ON_SECONDS", 0.01)
    over = {"type": "auto_retry_end", "success": False}
    swallowed = {"type": "compaction_end", "reason": "overflow", "willRetry": True}
    for last in (over, swallowed):
        barrier = Barrier()
        settlement = Settlement(tells=False, ask_state=barrier.ask)
        await tell(settlement, START, END, RETRY)
        await tell(settlement, barrier.answer(), last)
        await tell(settlement, barrier.answer())
        await asyncio.wait_for(settlement.done.wait(), 1)


async def test_a_new_pi_is_done_when_it_says_so() -> None:
    settlement = Settlement(tells=True, ask_state=Barrier().ask)
    await tell(settlement, START, END, RETRY)
    assert not settlement.done.is_set()
    await tell(settlement, {"type": "agent_settled"})
    assert settlement.done.is_set()


# --- sessions ---------------------------------------------------------------------------------


def said(number: int, role: Any, **message: Any) -> HistoryMessage:
    return HistoryMessage(entry_id_of(f"1000-{number}"), role, {"role": role, **message})


def user(number: int, text: str) -> HistoryMessage:
    return said(number, "user", content=[{"type": "text", "text": text}])


def assistant(number: int, *calls: str) -> HistoryMessage:
    content = [{"type": "toolCall", "id": c, "name": "t", "arguments": {}} for c in calls]
    return said(number, "assistant", content=content, timestamp=number)


def test_what_a_user_said_last_is_the_prompt() -> None:
    found = session.read(
        [user(1, "a"), assistant(2), user(3, "b")], asked=entry_id_of("1000-3")
    )

    assert found.prompt == "b"
    assert [each.role for each in found.before] == ["user", "assistant"]
    assert found.dangling == ()


def test_calls_without_a_result_dangle() -> None:
    result = said(6, "toolResult", toolCallId="c", content=[])
    old = [user(1, "a"), assistant(2, "c"), said(3, "toolResult", toolCallId="c", content=[])]
    found = session.read(
        [*old, user(4, "b"), assistant(5, "c", "d"), result], asked=entry_id_of("1000-4")
    )

    assert found.prompt is None
    assert [(each.id, each.turn_index) for each in found.dangling] == [("d", 0)]


def test_a_session_file_is_a_chain_and_a_summary_stands_after_what_it_left(
    tmp_path: Path,
) -> None:
    summary = said(5, "summary", summary="All of it.", tokensBefore=9)
    before = [summary, user(3, "kept"), assistant(4), user(6, "new")]
    raw = b"".join(session.lines(before, session_id="s", folder=tmp_path))
    header, *entries = [json.loads(line) for line in raw.splitlines()]

    assert raw.endswith(b"\n")
    assert header["cwd"] == str(tmp_path)
    assert [each["type"] for each in entries] == ["message", "message", "compaction", "message"]
    assert entries[2]["firstKeptEntryId"] == entries[0]["id"]
    assert [each["parentId"] for each in entries] == [None, *(e["id"] for e in entries[:-1])]
    file = tmp_path / "s.jsonl"
    file.write_bytes(raw)
    assert session.first_kept(file, entries[1]["id"], before) == before[2].entry_id
    assert session.first_kept(file, "nobody", before) is None


def test_a_summary_that_left_nothing_keeps_nothing(tmp_path: Path) -> None:
    before = [said(5, "summary", summary="All of it."), user(6, "new")]
    raw = b"".join(session.lines(before, session_id="s", folder=tmp_path))
    compaction = json.loads(raw.splitlines()[1])

    assert compaction["firstKeptEntryId"] == compaction["id"]


# --- bridge -----------------------------------------------------------------------------------


async def test_the_bridge_answers_nobody_without_the_token(tmp_path: Path) -> None:
    async def never(_: str) -> Any:
        raise AssertionError

    bridge = Bridge("right", never)
    await bridge.open(tmp_path / "b")
    try:
        for line in (b'{"token":"wrong","id":"c"}\n', b"{}\n", b"\n", b""):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "b")
            writer.write(line)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
    finally:
        await bridge.close()
