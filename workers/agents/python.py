"""Runs plain Python: config `callable` = "package.module:attribute".

That names an async function of one argument, or an async generator:

    async def agent(turn):
        yield "You said: "
        yield turn.text
        answer = await turn.call_tool("run_command", command="date")
        yield f"It is {answer.text}"

Yielded texts are streamed at once and become one message, which ends where a tool is called or
the function returns; a payload that is yielded is emitted as it is. What an async function
returns is the message.

Not guaranteed: going on after a crash. A function that can (it looks at `turn.history` or
`turn.checkpoint`) says so with `"repeatable": true` in the agent's config: then each message is
a checkpoint, and the function is called again, with all that was finished in `turn.history`.
"""

import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from dispatch.errors import Invalid
from dispatch.models.history import HistoryMessage
from dispatch.payloads.usage import TokenUsage
from workers.agents import (
    AgentPayload,
    Hands,
    Tool,
    ToolAnswer,
    ToolCall,
    TurnRequest,
    loading,
    telling,
)
from workers.agents.telling import Telling
from workers.outcomes import AgentOutcome


class Turn:
    """What an agent's function is given: the conversation, and what it may do."""

    def __init__(
        self,
        request: TurnRequest,
        hands: Hands,
        told: Telling,
        history: Sequence[HistoryMessage],
    ) -> None:
        self.text = request.text
        """What was said to the agent."""
        self.history = history
        """The conversation up to here, that text included, in pi's shapes."""
        self.tools: tuple[Tool, ...] = request.tools
        """The worker's own tools that `call_tool` can call, for a model to be told of."""
        self.checkpoint = request.checkpoint
        """What an earlier attempt of this turn left with `save`."""
        self.request = request
        self.hands = hands
        self._told = told
        self._said: list[str] = []
        self._used = TokenUsage()
        self._call_number = len([call for each in history for call in _calls(each)])
        self._resumes = request.agent.config.get("repeatable") is True

    @property
    def open_calls(self) -> list[ToolCall]:
        """Return the calls an earlier attempt announced and nobody has answered."""
        return [_call_in(part) for part in telling.open_calls(self.history)]

    async def say(self, text: str) -> None:
        """Stream a piece of the message that is being made, as `yield` does."""
        self._said.append(text)
        await self._told.stream(text)

    def use(self, usage: TokenUsage) -> None:
        """Count tokens; the message that ends next carries them."""
        self._used = telling.plus(self._used, usage)

    async def steering(self) -> Sequence[str]:
        """Return what people said meanwhile to steer this turn; ask before each step."""
        return await self.hands.take_steering(self._told.turn_index + 1)

    async def call_tool(self, name: str, **arguments: Any) -> ToolAnswer:
        """Announce a call of one of the worker's own tools and return its answer."""
        self._call_number += 1
        call_id = f"{self.request.dispatch_id}:call:{self._call_number}"
        await self._finish([telling.tool_call(call_id, name, telling.plain(arguments))])
        return await self._told.answer(call_id, None)

    async def answer(self, call: ToolCall) -> ToolAnswer:
        """Answer an open call: from the record, or by doing it."""
        return await self._told.answer(call.id, None)

    async def save(self, state: dict[str, Any]) -> None:
        """End the message; another attempt finds `state` in its `checkpoint`.

        Raises: Invalid, when nothing was said since the last message.
        """
        if not self._said:
            raise Invalid("There is no message for this checkpoint to stand with.")
        await self._finish([], checkpoint=state)

    async def end(self) -> None:
        """End the message, if one was begun."""
        if self._said:
            await self._finish([])

    async def _finish(
        self, calls: list[telling.Part], *, checkpoint: dict[str, Any] | None = None
    ) -> None:
        said = [telling.text("".join(self._said))] if self._said else []
        await self._told.finish(
            [*said, *calls],
            usage=self._used,
            checkpoint=checkpoint,
            is_checkpoint=self._resumes or checkpoint is not None,
        )
        self._said, self._used = [], TokenUsage()


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn."""
    told = Telling(request, hands, api="python")
    return await loading.ended(told, _take(request, hands, told))


async def _take(request: TurnRequest, hands: Hands, told: Telling) -> None:
    function = await loading.load(request, "callable")
    if not callable(function):
        raise Invalid("The agent's `callable` cannot be called.")
    history = await hands.history()
    told.take_up(history)
    turn = Turn(request, hands, told, history)
    answer: Any = function(turn)
    if hasattr(answer, "__aiter__"):
        await _say_all(turn, answer)
    elif inspect.isawaitable(answer):
        await _say(turn, await answer)
    else:
        raise Invalid("The agent's `callable` is neither async nor an async generator.")
    await turn.end()


async def _say_all(turn: Turn, pieces: AsyncIterator[Any]) -> None:
    try:
        async for piece in pieces:
            await _say(turn, piece)
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()


async def _say(turn: Turn, piece: str | AgentPayload | None) -> None:
    match piece:
        case None:
            pass
        case str():
            await turn.say(piece)
        case msgspec.Struct():
            await turn.end()
            await turn.hands.emit(piece)
        case _:
            raise Invalid(f"An agent yields text or payloads, not {type(piece).__name__}.")


def _calls(each: HistoryMessage) -> list[ToolCall]:
    if each.role != "assistant":
        return []
    parts = each.message["content"]
    return [_call_in(part) for part in parts if part.get("type") == "toolCall"]


def _call_in(part: telling.Part) -> ToolCall:
    return ToolCall(id=part["id"], name=part["name"], arguments=part["arguments"])
