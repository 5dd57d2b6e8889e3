"""Runs a `pydantic_ai.Agent`: config `agent` = "package.module:attribute", or a factory of one.

The conversation comes from the thread's history, never from the agent object, so that any
worker can take the next turn. The agent's own tools act through the ledger; the worker's are
offered beside them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai import Agent, ModelRetry, Tool, UsageLimits
from pydantic_ai.capabilities import AbstractCapability, ReinjectSystemPrompt
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.run import AgentRun
from pydantic_ai.toolsets import FunctionToolset
from pydantic_graph import End

from dispatch.errors import Invalid
from dispatch.models.history import HistoryMessage
from dispatch.payloads.content import text_of, tool_calls
from workers.agents import Hands, ToolAnswer, ToolCall, TurnRequest, loading, telling
from workers.agents.telling import Part, Telling
from workers.outcomes import AgentOutcome
from workers.sandboxes import OnOutput


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn.

    Promise: every message and result the model read or wrote stands on the stream; another
    attempt goes on after the last one.
    """
    told = Telling(request, hands, api="pydantic-ai")
    return await loading.ended(told, _take(request, hands, told))


async def _take(request: TurnRequest, hands: Hands, told: Telling) -> None:
    agent = await loading.made(request, "agent", Agent, noun="pydantic_ai.Agent")
    await hands.take_steering(1)
    history = await hands.history()
    told.take_up(history)
    if telling.is_answered(history):
        return
    async with agent.iter(
        message_history=_messages(history),
        model=request.agent.model,
        instructions=loading.text_of(request, "systemPrompt"),
        toolsets=[_worker_tools(request)],
        capabilities=[_Recorded(request, told), ReinjectSystemPrompt()],
        usage_limits=UsageLimits(request_limit=loading.max_steps(request)),
    ) as run:
        await _walk(run, hands, told)


async def _walk(run: AgentRun[Any, Any], hands: Hands, told: Telling) -> None:
    node: Any = run.next_node
    first = True
    while not isinstance(node, End):
        if Agent.is_model_request_node(node):
            if not first:
                steering = await hands.take_steering(told.turn_index + 1)
                said = [UserPromptPart(each) for each in steering]
                node.request = replace(node.request, parts=[*node.request.parts, *said])
            first = False
            node = await _ask(run, node, told)
        else:
            acted = Agent.is_call_tools_node(node)
            node = await run.next(node)
            if acted:
                await _settle(run, node, told)


async def _ask(run: AgentRun[Any, Any], node: Any, told: Telling) -> Any:
    """Let the model answer; its message stands on the stream on return."""
    async with node.stream(run.ctx) as events:
        async for event in events:
            await _stream(told, event)
    after: Any = await run.next(node)
    if Agent.is_call_tools_node(after):
        await _finish(told, after.model_response)
    return after


async def _stream(told: Telling, event: Any) -> None:
    match event:
        case PartStartEvent(index=index, part=TextPart(content=piece)):
            await told.stream(piece, content_index=index)
        case PartStartEvent(index=index, part=ThinkingPart(content=piece)):
            await told.stream(piece, kind="thinking", content_index=index)
        case PartDeltaEvent(index=index, delta=TextPartDelta(content_delta=piece)):
            await told.stream(piece, content_index=index)
        case PartDeltaEvent(index=index, delta=ThinkingPartDelta(content_delta=piece)):
            await told.stream(piece or "", kind="thinking", content_index=index)
        case _:
            pass


async def _finish(told: Telling, response: ModelResponse) -> None:
    used = response.usage
    await told.finish(
        [part for each in response.parts for part in _told_part(each)],
        usage=telling.tokens(
            whole_input=used.input_tokens,
            output=used.output_tokens,
            cache_read=used.cache_read_tokens,
            cache_write=used.cache_write_tokens,
        ),
        model=response.model_name,
        stop_reason="length" if response.finish_reason == "length" else None,
    )


def _told_part(part: ModelResponsePart) -> list[Part]:
    match part:
        case TextPart(content=content) if content:
            return [telling.text(content)]
        case ThinkingPart(content=content, signature=signature) if content:
            signed = {"thinkingSignature": signature} if signature else {}
            return [telling.thinking(content) | signed]
        case ToolCallPart():
            arguments = telling.plain(part.args_as_dict())
            return [telling.tool_call(part.tool_call_id, part.tool_name, arguments)]
        case _:
            return []


async def _settle(run: AgentRun[Any, Any], node: Any, told: Telling) -> None:
    """Record the results the library made itself: of bad arguments, of its output tools."""
    is_request = Agent.is_model_request_node(node)
    parts = node.request.parts if is_request else run.new_messages()[-1].parts
    for part in parts:
        if isinstance(part, ToolReturnPart) and told.call_of(part.tool_call_id) is not None:
            answer = ToolAnswer(
                text=part.model_response_str(), is_error=part.outcome != "success"
            )
            await told.answer(part.tool_call_id, telling.saying(answer))


class _Recorded(AbstractCapability[Any]):
    """Lets the agent's tools act through the ledger, and the worker's in their place."""

    def __init__(self, request: TurnRequest, told: Telling) -> None:
        self._own = {tool.name for tool in request.tools}
        self._told = told

    async def wrap_tool_execute(
        self, ctx: Any, *, call: ToolCallPart, tool_def: Any, args: Any, handler: Any
    ) -> str:
        """Answer from the record, or perform the call and record how it ended."""
        del ctx, tool_def

        async def perform(_call: ToolCall, _on_output: OnOutput) -> ToolAnswer:
            try:
                result = await handler(args)
            except ModelRetry as asked:
                return ToolAnswer(text=asked.message, is_error=True)
            shown = ToolReturnPart(tool_name=call.tool_name, content=result)
            return ToolAnswer(text=shown.model_response_str())

        own = call.tool_name in self._own
        answer = await self._told.answer(call.tool_call_id, None if own else perform)
        return answer.text


def _worker_tools(request: TurnRequest) -> FunctionToolset[Any]:
    return FunctionToolset(
        [
            Tool.from_schema(
                _performed_by_the_worker,
                name=tool.name,
                description=tool.description,
                json_schema=tool.parameters,
            )
            for tool in request.tools
        ]
    )


async def _performed_by_the_worker(**arguments: Any) -> str:
    raise Invalid(f"No worker took this call ({', '.join(arguments)}).")


# --- from the thread's history to the library's messages --------------------------------------


def _messages(history: Sequence[HistoryMessage]) -> list[ModelMessage]:
    """Return the library's form of a conversation.

    Calls that still lack a result are left open, with those made beside them: the library asks
    for all of them again, and the ledger answers those it knows.
    """
    asked_again = {call["id"] for call in telling.open_calls(history)}
    beside = _ids_beside(history, asked_again)
    messages: list[ModelMessage] = []
    for each in history:
        if each.role == "assistant":
            messages.append(ModelResponse(parts=_response_parts(each.message)))
        elif each.role != "toolResult" or each.message["toolCallId"] not in beside:
            part = _request_part(each)
            last = messages[-1] if messages else None
            if isinstance(last, ModelRequest):
                messages[-1] = replace(last, parts=[*last.parts, part])
            else:
                messages.append(ModelRequest(parts=[part]))
    return messages


def _ids_beside(history: Sequence[HistoryMessage], ids: set[str]) -> set[str]:
    for each in reversed(history):
        if each.role == "assistant" and ids:
            return {call["id"] for call in tool_calls(each.message)}
    return set()


def _response_parts(message: dict[str, Any]) -> list[ModelResponsePart]:
    parts: list[ModelResponsePart] = []
    for part in message["content"]:
        match part:
            case {"type": "text", "text": content}:
                parts.append(TextPart(content))
            case {"type": "thinking", "thinking": content}:
                parts.append(ThinkingPart(content))
            case {"type": "toolCall", "id": call_id, "name": name, "arguments": arguments}:
                parts.append(ToolCallPart(name, arguments, tool_call_id=call_id))
            case _:
                pass
    return parts


def _request_part(each: HistoryMessage) -> ModelRequestPart:
    if each.role == "toolResult":
        return ToolReturnPart(
            tool_name=each.message["toolName"],
            content=text_of(each.message),
            tool_call_id=each.message["toolCallId"],
        )
    if each.role == "summary":
        return UserPromptPart(f"[Summary of what was said before]\n{each.message['summary']}")
    return UserPromptPart(text_of(each.message))
