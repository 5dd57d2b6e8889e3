"""Tells what a framework's model said, in pi's shapes, and adds up what it used.

For runners whose messages are made by a library. Each finished message is a checkpoint: another
attempt goes on after it, from the thread's history. Not guaranteed: usage of messages that an
earlier attempt never finished; nobody wrote it down.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from dispatch import clock
from dispatch.ids import EntryId
from dispatch.models.history import HistoryMessage
from dispatch.payloads import llm
from dispatch.payloads.content import tool_calls
from dispatch.payloads.usage import TokenUsage
from workers.agents import Hands, Perform, ToolAnswer, ToolCall, TurnRequest
from workers.sandboxes import OnOutput

NOTHING: Final = TokenUsage()
StopReason = Literal["stop", "length", "toolUse", "error"]
Part = dict[str, Any]


class Telling:
    """One turn's messages, numbered, and the tokens they used."""

    def __init__(self, request: TurnRequest, hands: Hands, *, api: str) -> None:
        self.usage = TokenUsage()
        self.turn_index = 0
        """How many messages of the model this turn has, those of earlier attempts included."""
        self._request = request
        self._hands = hands
        self._api = api
        self._number = 0
        self._begun: dict[str, tuple[str, list[str]]] = {}
        """Messages that are being made: by key, their id and what was shown of them."""
        self._calls: dict[str, ToolCall] = {}
        self._answered: set[str] = set()

    def take_up(self, history: Sequence[HistoryMessage]) -> None:
        """Count what earlier attempts of this turn finished."""
        for each in since(history, self._request.entry_id):
            if each.role == "assistant":
                self._note_calls(each.message, self.turn_index)
                self.turn_index += 1
            elif each.role == "toolResult":
                self._answered.add(each.message["toolCallId"])
            self.use(_usage_in(each.message))

    def use(self, usage: TokenUsage | None) -> None:
        """Add to what this turn used."""
        if usage is not None:
            self.usage = plus(self.usage, usage)

    async def stream(
        self,
        delta: str,
        *,
        kind: Literal["text", "thinking"] = "text",
        content_index: int = 0,
        key: str = "",
    ) -> None:
        """Show a piece of the message that is being made.

        Args: key: tells messages apart that are made at the same time.
        """
        if not delta:
            return
        message_id, shown = self._begin(key)
        if kind == "text":
            shown.append(delta)
        await self._hands.emit(
            llm.Chunk(
                kind=kind,
                message_id=message_id,
                content_index=content_index,
                delta=delta,
            )
        )

    async def finish(
        self,
        content: list[Part],
        *,
        usage: TokenUsage,
        model: str | None = None,
        stop_reason: StopReason | None = None,
        response_id: str | None = None,
        checkpoint: dict[str, Any] | None = None,
        is_checkpoint: bool = True,
        key: str = "",
    ) -> None:
        """Emit a message whole: with what it asks of tools, before anything of it is done.

        Args: is_checkpoint: another attempt goes on after this message, given `checkpoint`.
        """
        calls = [part for part in content if part["type"] == "toolCall"]
        message = self._message(content, usage=usage, model=model, response_id=response_id) | {
            "stopReason": stop_reason or ("toolUse" if calls else "stop")
        }
        await self._emit(message, key, checkpoint=(checkpoint or {}) if is_checkpoint else None)
        self.use(usage)

    async def break_off(self, problem: str) -> None:
        """End the messages that were begun, for people: models never see them."""
        for key, (_, shown) in list(self._begun.items()):
            content = [text("".join(shown))]
            message = self._message(content, usage=TokenUsage(), model=None, response_id=None)
            message |= {"stopReason": "error", "errorMessage": problem}
            await self._emit(message, key, checkpoint=None)

    async def answer(self, call_id: str, perform: Perform | None) -> ToolAnswer:
        """Answer a call that was told, through the ledger, and count what it used.

        Args: perform: None: the worker's own tool of that name does it.
        """
        answer = await self._hands.call_tool(self._calls[call_id], perform)
        if call_id not in self._answered:
            self._answered.add(call_id)
            self.use(answer.usage)
        return answer

    def call_of(self, call_id: str) -> ToolCall | None:
        """Return a call that was told in this turn, if there is one of that id."""
        return self._calls.get(call_id)

    def open_call(self, name: str, arguments: Mapping[str, Any]) -> ToolCall | None:
        """Return the first unanswered call of this tool with these arguments."""
        wanted = plain(arguments)
        for call in self.open_calls():
            if call.name == name and call.arguments == wanted:
                return call
        return None

    def open_calls(self) -> list[ToolCall]:
        """Return the calls of this turn that nobody has answered."""
        return [call for call in self._calls.values() if call.id not in self._answered]

    def _begin(self, key: str) -> tuple[str, list[str]]:
        if key not in self._begun:
            self._number += 1
            self._begun[key] = (self._request.message_id(self._number), [])
        return self._begun[key]

    def _note_calls(self, message: dict[str, Any], turn_index: int) -> None:
        for call in tool_calls(message):
            self._calls[call["id"]] = ToolCall(
                id=call["id"],
                name=call["name"],
                arguments=call["arguments"],
                turn_index=turn_index,
            )

    def _message(
        self,
        content: list[Part],
        *,
        usage: TokenUsage,
        model: str | None,
        response_id: str | None,
    ) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content,
            "api": self._api,
            "provider": self._request.agent.config.get("provider", self._api),
            "model": model or self._request.agent.model or "",
            "usage": msgspec.to_builtins(usage),
            "timestamp": clock.milliseconds(clock.now()),
        }
        return message if response_id is None else message | {"responseId": response_id}

    async def _emit(
        self, message: dict[str, Any], key: str, *, checkpoint: dict[str, Any] | None
    ) -> None:
        message_id, _ = self._begin(key)
        del self._begun[key]
        turn_index, self.turn_index = self.turn_index, self.turn_index + 1
        self._note_calls(message, turn_index)
        await self._hands.emit(
            llm.Assistant(message_id=message_id, turn_index=turn_index, message=message),
            checkpoint=checkpoint,
        )


def saying(answer: ToolAnswer) -> Perform:
    """Return what answers a call with an answer that is there already."""

    async def say(_call: ToolCall, _on_output: OnOutput) -> ToolAnswer:
        return answer

    return say


def since(history: Sequence[HistoryMessage], entry_id: EntryId) -> list[HistoryMessage]:
    """Return what came after an entry; all, if it is not there."""
    for place, each in enumerate(history):
        if each.entry_id == entry_id and each.role == "user":
            return list(history[place + 1 :])
    return list(history)


def open_calls(history: Sequence[HistoryMessage]) -> list[Part]:
    """Return the calls of the last message that lack a result."""
    answered = {each.message["toolCallId"] for each in history if each.role == "toolResult"}
    for each in reversed(history):
        if each.role == "assistant":
            return [call for call in tool_calls(each.message) if call["id"] not in answered]
    return []


def is_answered(history: Sequence[HistoryMessage]) -> bool:
    """Tell whether the conversation ends with an answer: nothing is left to do."""
    return (
        bool(history)
        and history[-1].role == "assistant"
        and not tool_calls(history[-1].message)
    )


def text(content: str) -> Part:
    """Return a text part."""
    return {"type": "text", "text": content}


def thinking(content: str) -> Part:
    """Return a part that holds a model's reasoning."""
    return {"type": "thinking", "thinking": content}


def tool_call(call_id: str, name: str, arguments: dict[str, Any]) -> Part:
    """Return a part that asks for a tool."""
    return {"type": "toolCall", "id": call_id, "name": name, "arguments": arguments}


def plain(part: Any) -> Any:
    """Return what a tool's arguments or result look like as JSON values."""
    return msgspec.to_builtins(part, enc_hook=str, str_keys=True)


def tokens(
    *, whole_input: int, output: int, cache_read: int = 0, cache_write: int = 0
) -> TokenUsage:
    """Return usage where the library counts cached tokens among the input's, as pi does not."""
    return TokenUsage(
        input=max(0, whole_input - cache_read - cache_write),
        output=output,
        cache_read=cache_read,
        cache_write=cache_write,
        total_tokens=max(whole_input, cache_read + cache_write) + output,
    )


def plus(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    """Return the sum of both."""
    return _sum([one, other])


def _sum(usages: Iterable[TokenUsage]) -> TokenUsage:
    each = list(usages)
    return TokenUsage(
        input=sum(one.input for one in each),
        output=sum(one.output for one in each),
        cache_read=sum(one.cache_read for one in each),
        cache_write=sum(one.cache_write for one in each),
        total_tokens=sum(one.total_tokens for one in each),
        cost=type(each[0].cost)(
            input=sum(one.cost.input for one in each),
            output=sum(one.cost.output for one in each),
            cache_read=sum(one.cost.cache_read for one in each),
            cache_write=sum(one.cost.cache_write for one in each),
            total=sum(one.cost.total for one in each),
        ),
    )


def _usage_in(message: dict[str, Any]) -> TokenUsage | None:
    try:
        return msgspec.convert(message.get("usage") or {}, TokenUsage)
    except msgspec.ValidationError:
        return None
