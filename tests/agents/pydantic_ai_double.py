"""A pydantic-ai agent over the library's `FunctionModel`."""

import json

from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from tests.agents.model import MODEL, ModelBroke, Said

ROLE_OF = {UserPromptPart: "user", ToolReturnPart: "tool", SystemPromptPart: "system"}


def asked(messages: list[ModelMessage]) -> list[Said]:
    told = []
    for message in messages:
        if isinstance(message, ModelRequest):
            told += [Said(ROLE_OF[type(part)], str(part.content)) for part in message.parts]
        else:
            texts = [part.content for part in message.parts if isinstance(part, TextPart)]
            told.append(Said("assistant", "".join(texts)))
            assert all(isinstance(part, TextPart | ToolCallPart) for part in message.parts)
    return told


async def stream(messages: list[ModelMessage], info: AgentInfo):
    reply = MODEL.next(asked(messages), {tool.name for tool in info.function_tools})
    for number, piece in enumerate(reply.pieces):
        yield piece
        if number == 0 and reply.hold:
            await reply.hold.wait()
    if reply.hold and not reply.pieces:
        await reply.hold.wait()
    if reply.error:
        raise ModelBroke(reply.error)
    for number, call in enumerate(reply.calls):
        arguments = json.dumps(call.arguments)
        yield {number + 1: DeltaToolCall(call.name, arguments, tool_call_id=call.id)}


def agent() -> Agent:
    made = Agent(FunctionModel(stream_function=stream), system_prompt="Be brief.")

    @made.tool_plain
    async def book(thing: str) -> str:
        """Book a thing."""
        return await MODEL.book(thing)

    return made
