"""pi's events become the thread's entries; what the model used is added up on the way.

    message_update ─▶ pi.chunk (pieces)        compaction_end   ─▶ pi.compaction
    message_end    ─▶ pi.assistant, verbatim   auto_retry_start ─▶ signal.dispatch.retrying
    message_end of a result that no tool of ours gave ─▶ hands.call_tool with that answer

A failed try is a message too: shown, counted, never sent to a model again. Each finished
message is a checkpoint; with it stand the number of the last message and the usage so far.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from dispatch.ids import EntryId
from dispatch.models.history import HistoryMessage
from dispatch.payloads import llm
from dispatch.payloads.content import UNFINISHED, text_of
from dispatch.payloads.signals import Retrying
from dispatch.payloads.usage import TokenUsage
from workers.agents import Hands, ToolAnswer, ToolCall, TurnRequest, telling
from workers.agents.pi import records, session
from workers.agents.pi.records import Delta, Record

FindFirstKept = Callable[[str | None], Awaitable[EntryId | None]]
"""Finds the thread's entry behind an entry of pi's session file."""
_CHUNK_KINDS: Final[dict[str, llm.ChunkKind]] = {
    "text_delta": "text",
    "thinking_delta": "thinking",
}


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """What stands in the checkpoint: an attempt that goes on counts from here."""

    messages: int = 0
    usage: TokenUsage = TokenUsage()


class Mapper:
    """Tells one turn's events to the stream. One event at a time."""

    def __init__(self, request: TurnRequest, hands: Hands, first_kept: FindFirstKept) -> None:
        begun = msgspec.convert(request.checkpoint or {}, Progress)
        self.usage = begun.usage
        self.last: dict[str, Any] = {}
        """The last finished message of the model."""
        self.is_silenced = False
        """True: the turn was cancelled; results are no longer asked for."""
        self.pause_seconds = 0.0
        """How long pi waits of its own accord before it goes on."""
        self._request = request
        self._hands = hands
        self._first_kept = first_kept
        self._number = begun.messages
        self._calls: dict[str, asyncio.Future[ToolCall]] = {}
        self._answered: set[str] = set()

    def take_up(self, turn: Sequence[HistoryMessage]) -> None:
        """Count what tools used since the last checkpoint, which counts what came before it."""
        for each in reversed(turn):
            if each.role in {"assistant", "summary"}:
                return
            if each.role == "toolResult":
                self.usage = telling.plus(
                    self.usage, records.read_usage(each.message.get("usage"))
                )

    async def take(self, record: Record) -> None:
        """Tell one event. Raises: what `hands` raise."""
        is_pausing = record.type == "auto_retry_start"
        self.pause_seconds = record.delay_ms / 1000 if is_pausing else 0.0
        match record.type:
            case "message_start":
                if records.read_message(record.message).get("role") == "assistant":
                    self._number += 1
            case "message_update":
                await self._show(record.assistant_message_event)
            case "message_end":
                await self._finish(records.read_message(record.message))
            case "compaction_end":
                await self._tell_compaction(record)
            case "auto_retry_start":
                await self._tell_retry(record)
            case _:
                pass

    async def perform(self, call_id: str) -> ToolAnswer:
        """Perform a call that pi makes, once its message stands on the stream."""
        call = await self._announced(call_id)
        answer = await self._hands.call_tool(call)
        self._answered.add(call_id)
        if answer.usage is not None:
            self.usage = telling.plus(self.usage, answer.usage)
        return answer

    def _announced(self, call_id: str) -> "asyncio.Future[ToolCall]":
        if call_id not in self._calls:
            self._calls[call_id] = asyncio.get_running_loop().create_future()
        return self._calls[call_id]

    async def _show(self, piece: Delta | None) -> None:
        if piece is None:
            return
        kind = _CHUNK_KINDS.get(piece.type)
        if kind is not None and piece.delta:
            await self._hands.emit(
                llm.Chunk(
                    kind=kind,
                    message_id=self._message_id,
                    content_index=piece.content_index,
                    delta=piece.delta,
                )
            )
        elif piece.type == "toolcall_end" and piece.tool_call:
            await self._hands.emit(
                llm.Chunk(
                    kind="toolCall",
                    message_id=self._message_id,
                    content_index=piece.content_index,
                    tool_call_id=piece.tool_call.get("id"),
                    tool_name=piece.tool_call.get("name"),
                    arguments=piece.tool_call.get("arguments"),
                )
            )

    async def _finish(self, message: dict[str, Any]) -> None:
        match message.get("role"):
            case "assistant":
                await self._finish_assistant(message)
            case "toolResult" if not self.is_silenced:
                await self._finish_unperformed(message)
            case _:
                pass

    async def _finish_assistant(self, message: dict[str, Any]) -> None:
        self.last = message
        self.usage = telling.plus(self.usage, records.read_usage(message.get("usage")))
        turn_index = self._number - 1
        await self._hands.emit(
            llm.Assistant(message_id=self._message_id, turn_index=turn_index, message=message),
            checkpoint=self._progress(),
        )
        if message.get("stopReason") in UNFINISHED:
            return
        for call in session.calls(message, turn_index):
            announced = self._announced(call.id)
            if not announced.done():
                announced.set_result(call)

    async def _finish_unperformed(self, message: dict[str, Any]) -> None:
        """Record a result that pi gave itself: no such tool, arguments of a wrong shape."""
        call_id = str(message.get("toolCallId"))
        announced = self._calls.get(call_id)
        if call_id in self._answered or announced is None or not announced.done():
            return
        answer = ToolAnswer(text=text_of(message), is_error=bool(message.get("isError")))

        async def give(*_: object) -> ToolAnswer:
            return answer

        self._answered.add(call_id)
        await self._hands.call_tool(announced.result(), give)

    async def _tell_compaction(self, record: Record) -> None:
        found = _summary(record)
        usage = records.read_usage(found.usage) if found.usage else None
        if usage is not None:
            self.usage = telling.plus(self.usage, usage)
        await self._hands.emit(
            llm.Compaction(
                reason=record.reason,
                aborted=record.aborted,
                will_retry=record.will_retry,
                error_message=record.error_message,
                summary=found.summary or None,
                first_kept_entry_id=await self._first_kept(found.first_kept_entry_id),
                tokens_before=found.tokens_before,
                usage=usage,
            ),
            checkpoint=self._progress(),
        )

    async def _tell_retry(self, record: Record) -> None:
        await self._hands.emit(
            Retrying(
                attempt=record.attempt,
                max_attempts=record.max_attempts,
                delay_ms=round(record.delay_ms),
                error_message=record.error_message,
            )
        )

    def _progress(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(
            Progress(messages=self._number, usage=self.usage)
        )
        return found

    @property
    def _message_id(self) -> str:
        return self._request.message_id(self._number)


def _summary(record: Record) -> records.Summary:
    try:
        found = msgspec.json.decode(record.result, type=records.Summary | None)
    except msgspec.DecodeError:
        found = None
    return found or records.Summary()
