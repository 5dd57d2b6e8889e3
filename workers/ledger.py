"""The tool ledger of one turn: intent before, outcome after, nothing done twice.

The intent is the `pi.assistant` that holds the call, the outcome its `pi.tool_result`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from dispatch import clock, log
from dispatch.errors import ArbeError, Fenced, Invalid
from dispatch.ids import EntryId
from dispatch.models.history import HistoryMessage
from dispatch.payloads import llm
from dispatch.payloads.content import text_of, tool_calls
from workers.agents import Perform, ToolAnswer, ToolCall
from workers.sandboxes import OnOutput

_log = log.get(__name__)
Answer = TypeVar("Answer")
Permit: TypeAlias = Callable[[ToolCall], Awaitable[ToolAnswer | None]]
"""Waits for who must agree; returns what they answered in the call's place, or None: do it."""
_CUT: Final = "[The last part of {count} bytes]\n"


class Ledger:
    """Knows which calls were announced and which were answered."""

    def __init__(
        self,
        emit: Callable[[llm.Chunk | llm.ToolResult], Awaitable[None]],
        *,
        max_text_bytes: int,
        permit: Permit | None = None,
    ) -> None:
        self._emit = emit
        self._max_text_bytes = max_text_bytes
        self._permit = permit or _do_it
        self._announced: set[str] = set()
        self._answers: dict[str, ToolAnswer] = {}

    def read(self, messages: Sequence[HistoryMessage], entry_id: EntryId) -> None:
        """Take in what stands on the stream already of the turn of an entry."""
        asked = [i for i, each in enumerate(messages) if each.entry_id == entry_id]
        for each in messages[asked[0] if asked else 0 :]:
            if each.role == "assistant":
                self.announce(each.message)
            elif each.role == "toolResult":
                self._answers[each.message["toolCallId"]] = _answer_in(each.message)

    def announce(self, message: Mapping[str, Any]) -> None:
        """Note the calls in an assistant's message that stands on the stream."""
        self._announced.update(call["id"] for call in tool_calls(message))

    def record(self, result: llm.ToolResult) -> None:
        """Note a result that stands on the stream."""
        self._answers[result.tool_call_id] = _answer_in(result.message)

    async def answer(
        self, call: ToolCall, perform: Perform, on_output: OnOutput | None
    ) -> ToolAnswer:
        """Return the recorded result, or perform the call and record how it ended.

        Raises: Invalid, for a call that nothing announced; Fenced.
        """
        if call.id in self._answers:
            return self._answers[call.id]
        if call.id not in self._announced:
            raise Invalid(
                f"Tool call '{call.id}' was not announced.",
                next_step="Emit the `pi.assistant` that holds it first.",
            )

        async def show(output: str) -> None:
            await self._emit(
                llm.Chunk(
                    kind="toolOutput",
                    tool_call_id=call.id,
                    tool_name=call.name,
                    delta=output,
                )
            )
            if on_output is not None:
                await on_output(output)

        seconds: float | None = None
        answer = await _as_answer(call, self._permit(call))
        if answer is None:
            began = clock.monotonic_seconds()
            answer = await _as_answer(call, perform(call, show))
            seconds = clock.monotonic_seconds() - began
        answer = self._short(answer)
        await self._emit(_result(call, answer, seconds=seconds))
        self._answers[call.id] = answer
        return answer

    def _short(self, answer: ToolAnswer) -> ToolAnswer:
        raw = answer.text.encode(errors="replace")
        if len(raw) <= self._max_text_bytes:
            return answer
        head = _CUT.format(count=len(raw))
        tail = raw[len(head) - self._max_text_bytes :].decode(errors="ignore")
        return ToolAnswer(
            text=head + tail,
            is_error=answer.is_error,
            details={**answer.details, "truncated": True, "totalBytes": len(raw)},
            usage=answer.usage,
        )


async def _do_it(_call: ToolCall) -> None:
    """Need nobody's word."""


async def _as_answer(call: ToolCall, act: Awaitable[Answer]) -> Answer | ToolAnswer:
    """Return what an act returns; what goes wrong in it becomes an answer."""
    try:
        return await act
    except Fenced:
        raise
    except ArbeError as error:
        return ToolAnswer(text=str(error), is_error=True)
    except Exception as error:  # noqa: BLE001 - any code may be a tool
        _log.exception("tool.failed", tool=call.name)
        return ToolAnswer(text=log.scrub(f"{type(error).__name__}: {error}"), is_error=True)


def _result(call: ToolCall, answer: ToolAnswer, *, seconds: float | None) -> llm.ToolResult:
    """Args: seconds: how long it was performed; None: somebody answered in its place."""
    message: dict[str, Any] = {
        "role": "toolResult",
        "toolCallId": call.id,
        "toolName": call.name,
        "content": [{"type": "text", "text": answer.text}],
        "details": answer.details,
        "isError": answer.is_error,
        "timestamp": clock.milliseconds(clock.now()),
    }
    if answer.usage is not None:
        # Another attempt counts what stands in the messages it goes on from.
        message["usage"] = msgspec.to_builtins(answer.usage)
    return llm.ToolResult(
        tool_call_id=call.id,
        tool_name=call.name,
        is_error=answer.is_error,
        turn_index=call.turn_index,
        duration_ms=None if seconds is None else round(seconds * 1000),
        usage=answer.usage,
        message=message,
    )


def _answer_in(message: Mapping[str, Any]) -> ToolAnswer:
    return ToolAnswer(
        text=text_of(message),
        is_error=bool(message.get("isError")),
        details=dict(message.get("details") or {}),
    )
