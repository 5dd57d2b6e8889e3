"""An agent whose orders are the words of the entry it answers, one step after the other."""

import asyncio
import re
from typing import Final, Protocol

from dispatch.payloads.llm import Assistant, Chunk, ToolResult
from dispatch.payloads.usage import Cost, TokenUsage
from tests.crashes.life import Life
from workers.agents import Hands, ToolAnswer, ToolCall, TurnRequest
from workers.outcomes import AgentOutcome, Completed, Failed
from workers.sandboxes import OnOutput

NAME: Final = "scripted"
_MENTIONS: Final = re.compile(r"^(?:@\w+ )+")
USAGE: Final = TokenUsage(input=3, output=5, total_tokens=8, cost=Cost(total=0.25))


class World(Protocol):
    """What of the play an agent touches."""

    async def effect(self, turn: str, run_id: str, call_id: str) -> None:
        """Do what cannot be undone."""

    async def gate(self) -> None:
        """Wait until the play goes on; open for ever after the first time."""


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Do as told, from the word after the last checkpoint on."""
    words = _MENTIONS.sub("", request.text).split()
    done = (request.checkpoint or {}).get("done", 0)
    for number, word in enumerate(words[done:], done):
        name = f"{request.run_id}:{number}"
        match word:
            case "fail":
                return Failed(reason="agent_error", message="as told", usage=USAGE)
            case "mark":
                said = _message(name, {"type": "text", "text": "so far"})
                await hands.emit(said, checkpoint={"done": number + 1})
            case "permit":
                await _permitted(number, request, hands)
            case "delegate":
                await _delegated(number, request, hands)
            case "steer":
                for text in await hands.take_steering(number):
                    await _obey(text, f"{name}s", request, hands)
            case _:
                await _obey(word, name, request, hands)
    return Completed(usage=USAGE)


async def _obey(word: str, name: str, request: TurnRequest, hands: Hands) -> None:
    play: World = Life.acting().play
    match word:
        case "chunk":
            await hands.emit(Chunk(kind="text", message_id=name, delta="word "))
        case "ask":
            await hands.emit(_message(name, {"type": "text", "text": "@three say"}))
        case "say":
            await hands.emit(_message(name, {"type": "text", "text": "word"}))
        case "tool":
            await hands.emit(_message(name, {"type": "toolCall", "id": name, "name": "act"}))
            await play.effect(
                f"{request.thread_id} {request.dispatch_id}", request.run_id, name
            )
            await hands.emit(
                ToolResult(
                    tool_call_id=name, tool_name="act", is_error=False, turn_index=0, message={}
                )
            )
        case "beat":
            await hands._writer.renew()
        case "gate":
            await play.gate()
        case "crash":
            raise RuntimeError("as told")
        case _:
            raise AssertionError(word)


async def _delegated(number: int, request: TurnRequest, hands: Hands) -> None:
    """Give two tasks side by side, once in all attempts."""
    calls = [
        ToolCall(
            id=f"{request.dispatch_id}:delegate {handle}",
            name="delegate_task",
            arguments={"agent": handle, "task": "say"},
        )
        for handle in ("one", "two")
    ]
    await _announced(number, request, hands, *calls)
    await asyncio.gather(*map(hands.call_tool, calls))


async def _announced(number: int, request: TurnRequest, hands: Hands, *calls: ToolCall) -> None:
    found = await hands.history()
    if any(calls[0].id in str(each.message) for each in found):
        return
    content = [{"type": "toolCall", "id": call.id, "name": call.name} for call in calls]
    name = f"{request.run_id}:calls"
    message = {"role": "assistant", "content": content}
    said = Assistant(message_id=name, turn_index=0, message=message)
    await hands.emit(said, checkpoint={"done": number})


async def _permitted(number: int, request: TurnRequest, hands: Hands) -> None:
    """Call a tool that must be asked for, once in all attempts."""
    call = ToolCall(id=f"{request.dispatch_id}:permit", name="act", arguments={})
    await _announced(number, request, hands, call)

    async def act(_call: ToolCall, _on_output: OnOutput) -> ToolAnswer:
        return ToolAnswer(text="done")

    await hands.call_tool(call, act)


def _message(name: str, content: dict[str, str]) -> Assistant:
    return Assistant(
        message_id=name, turn_index=0, message={"role": "assistant", "content": [content]}
    )
