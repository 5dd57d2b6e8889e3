"""Runs a LlamaIndex agent: config `agent` = "package.module:attribute".

That names a `FunctionAgent`, another workflow agent, an `AgentWorkflow` of several, or a
function without arguments (async or not) that makes one. Its memory is made anew for each turn
from the thread's history, within its model's context window (`ChatMemoryBuffer`).

The object stays as it is: a copy of it is watched, at the methods the library gives to writers
of agents (`take_step`, `get_tools`, `handle_tool_call_results`).
"""

import asyncio
import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llama_index.core.agent.workflow import AgentOutput, AgentStream, AgentWorkflow
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import AsyncBaseTool, FunctionTool, ToolMetadata, ToolOutput
from llama_index.core.tools.types import adapt_to_async_tool

from dispatch.errors import Invalid
from dispatch.models.history import HistoryMessage, text_of
from dispatch.payloads.usage import TokenUsage
from workers.agents import Hands, Perform, Tool, ToolAnswer, ToolCall, TurnRequest, loading
from workers.agents import telling
from workers.agents.telling import Part, Telling
from workers.outcomes import AgentOutcome
from workers.sandboxes import OnOutput

Workflow: TypeAlias = BaseWorkflowAgent | AgentWorkflow
_INTERRUPTED = "Interrupted: nobody knows whether it was done, or how it ended."


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn.

    Promise: every message and result the model read or wrote stands on the stream; another
    attempt goes on after the last one.
    """
    told = Telling(request, hands, api="llamaindex")
    return await loading.ended(told, _take(request, hands, told))


async def _take(request: TurnRequest, hands: Hands, told: Telling) -> None:
    watched = _Watched(await _made(request), request, hands, told)
    await hands.take_steering(1)
    history = await hands.history()
    told.take_up(history)
    if telling.is_answered(history):
        return
    if told.open_calls():
        await watched.answer_open_calls()
        history = await hands.history()
    handler = watched.workflow.run(
        memory=ChatMemoryBuffer.from_defaults(llm=watched.llm),
        chat_history=_messages(history),
        max_iterations=loading.max_steps(request),
    )
    ending = asyncio.ensure_future(_end_of(handler))
    try:
        # Shielded: the library ends its steps when it is asked to, not when its waiter is gone.
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await handler.cancel_run()
        await asyncio.gather(ending, return_exceptions=True)
        raise


async def _end_of(handler: Any) -> None:
    await handler


async def _made(request: TurnRequest) -> Workflow:
    found = await loading.load(request, "agent")
    if not isinstance(found, BaseWorkflowAgent | AgentWorkflow):
        if not callable(found):
            raise Invalid("The agent's `agent` is no LlamaIndex agent and makes none.")
        found = found()
        found = await found if inspect.isawaitable(found) else found
    if not isinstance(found, BaseWorkflowAgent | AgentWorkflow):
        raise Invalid(f"The agent's `agent` made a {type(found).__name__}, not an agent.")
    return found


class _Watched:
    """A copy of a workflow that tells its messages and acts through the ledger."""

    def __init__(
        self, workflow: Workflow, request: TurnRequest, hands: Hands, told: Telling
    ) -> None:
        self.workflow = copy.copy(workflow)
        self._request = request
        self._hands = hands
        self._told = told
        self._steps = 0
        self._context: Any = None
        """Of the step under way, for tools that ask for it."""
        if isinstance(self.workflow, AgentWorkflow):
            agents = {name: copy.copy(each) for name, each in self.workflow.agents.items()}
            self.workflow.agents = agents
            self._all = list(agents.values())
            self.llm = agents[self.workflow.root_agent].llm
        else:
            self._all = [self.workflow]
            self.llm = self.workflow.llm
        for agent in self._all:
            self._watch(agent)
        self._get_tools: Callable[..., Any] = self.workflow.get_tools
        _replace(self.workflow, "get_tools", self._tools)

    async def answer_open_calls(self) -> None:
        """Answer the calls that an earlier attempt announced."""
        for call in self._told.open_calls():
            root = (
                (self.workflow.root_agent,) if isinstance(self.workflow, AgentWorkflow) else ()
            )
            tools = {each.metadata.name: each for each in await self._tools(*root, call.name)}
            if call.name in tools:
                await tools[call.name].acall(**call.arguments)
            else:
                answer = ToolAnswer(text=_INTERRUPTED, is_error=True)
                await self._told.answer(call.id, telling.saying(answer))

    def _watch(self, agent: BaseWorkflowAgent) -> None:
        prompt = loading.text_of(self._request, "systemPrompt")
        if prompt is not None:
            agent.system_prompt = prompt
        take_step, handle = agent.take_step, agent.handle_tool_call_results

        async def watched_step(
            ctx: Any, llm_input: list[ChatMessage], tools: Any, memory: Any
        ) -> AgentOutput:
            self._context = ctx
            said = await self._steering(agent, ctx, memory)
            streaming = _Streaming(ctx, self._told)
            output = await streaming.around(
                take_step(streaming, [*llm_input, *said], tools, memory)  # type: ignore[arg-type]
            )
            await self._finish(output)
            return output

        async def watched_results(ctx: Any, results: Any, memory: Any) -> None:
            for each in results:
                if self._told.call_of(each.tool_id) is not None:
                    answer = _answer_in(each.tool_output)
                    await self._told.answer(each.tool_id, telling.saying(answer))
            await handle(ctx, results, memory)

        _replace(agent, "take_step", watched_step)
        _replace(agent, "handle_tool_call_results", watched_results)

    async def _steering(
        self, agent: BaseWorkflowAgent, ctx: Any, memory: Any
    ) -> list[ChatMessage]:
        """Take in what people said meanwhile; return what the step's input lacks of it."""
        self._steps += 1
        if self._steps == 1:
            return []
        texts = await self._hands.take_steering(self._told.turn_index + 1)
        said = [ChatMessage(role="user", content=each) for each in texts]
        if not said:
            return []
        pad = getattr(agent, "scratchpad_key", None)
        if pad is None:
            await memory.aput_messages(said)
            return said
        await ctx.store.set(pad, [*await ctx.store.get(pad, default=[]), *said])
        return []

    async def _finish(self, output: AgentOutput) -> None:
        for number, call in enumerate(output.tool_calls):
            call.tool_id = (
                call.tool_id
                or f"{self._request.message_id(self._told.turn_index)}:call:{number}"
            )
        calls = [
            telling.tool_call(each.tool_id, each.tool_name, telling.plain(each.tool_kwargs))
            for each in output.tool_calls
        ]
        raw = output.raw if isinstance(output.raw, dict) else {}
        await self._told.finish(
            [*_content(output.response), *calls],
            usage=_usage(raw.get("usage")),
            model=raw.get("model"),
            response_id=raw.get("id"),
        )

    async def _tools(self, *asked: Any, **more: Any) -> Sequence[AsyncBaseTool]:
        found = [*await self._get_tools(*asked, **more)]
        names = {each.metadata.name for each in found}
        own = [_own_tool(each) for each in self._request.tools if each.name not in names]
        owned = {each.metadata.name for each in own}
        return [
            # A handoff is the library's own step, not an act upon the world.
            each
            if each.metadata.name == "handoff"
            else _RecordedTool(each, self._told, self._performing(each, owned))
            for each in [*found, *own]
        ]

    def _performing(self, tool: AsyncBaseTool, owned: set[str | None]) -> Perform | None:
        if tool.metadata.name in owned:
            return None

        async def perform(call: ToolCall, _on_output: OnOutput) -> ToolAnswer:
            arguments = dict(call.arguments)
            if isinstance(tool, FunctionTool) and tool.requires_context:
                arguments[tool.ctx_param_name or "ctx"] = self._context
            return _answer_in(await tool.acall(**arguments))

        return perform


class _RecordedTool(AsyncBaseTool):
    """A tool that is answered through the ledger."""

    def __init__(self, tool: AsyncBaseTool, told: Telling, perform: Perform | None) -> None:
        self._tool = tool
        self._told = told
        self._perform = perform

    @property
    def metadata(self) -> ToolMetadata:
        """Return what a model is told of it."""
        return self._tool.metadata

    def call(self, input: Any) -> ToolOutput:  # noqa: A002  # the library's name
        """Refuse: the library calls it from a loop."""
        raise NotImplementedError(input)

    async def acall(self, **arguments: Any) -> ToolOutput:  # type: ignore[override]
        """Answer from the record, or perform the call and record how it ended."""
        name = self.metadata.get_name()
        call = self._told.open_call(name, arguments)
        if call is None:
            raise Invalid(f"Nobody announced this call of {name}.")
        answer = await self._told.answer(call.id, self._perform)
        return ToolOutput(
            tool_name=name,
            content=answer.text,
            raw_input=arguments,
            raw_output=answer.text,
            is_error=answer.is_error,
        )


class _Streaming:
    """A step's context that shows what its model says before the step is over."""

    def __init__(self, context: Any, told: Telling) -> None:
        self._context = context
        self._told = told
        self._pieces: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def write_event_to_stream(self, event: Any) -> None:
        """Note an event of the step; it is told in order."""
        if isinstance(event, AgentStream):
            self._pieces.put_nowait((event.delta, event.thinking_delta or ""))
        self._context.write_event_to_stream(event)

    async def around(self, step: Any) -> AgentOutput:
        """Wait for the step; all it streamed is shown on return."""
        showing = asyncio.create_task(self._show())
        try:
            output: AgentOutput = await step
        except asyncio.CancelledError:
            showing.cancel()
            raise
        finally:
            self._pieces.put_nowait(None)
            await asyncio.wait({showing})
        await showing
        return output

    async def _show(self) -> None:
        while (piece := await self._pieces.get()) is not None:
            said, thought = piece
            await self._told.stream(thought, kind="thinking")
            await self._told.stream(said)


def _replace(of: Any, name: str, function: Callable[..., Any]) -> None:
    # Agents are pydantic models, which refuse attributes that are no fields.
    object.__setattr__(of, name, function)


def _own_tool(tool: Tool) -> AsyncBaseTool:
    return _OwnTool(tool)


class _OwnMetadata(ToolMetadata):
    """What a model is told of a worker's tool: its JSON schema as it is."""

    def __init__(self, tool: Tool) -> None:
        super().__init__(description=tool.description, name=tool.name, fn_schema=None)
        self._parameters = tool.parameters

    def get_parameters_dict(self) -> dict[str, Any]:
        """Return the tool's JSON schema."""
        return self._parameters


class _OwnTool(AsyncBaseTool):
    """One of the worker's own tools; the ledger performs it."""

    def __init__(self, tool: Tool) -> None:
        self._metadata = _OwnMetadata(tool)

    @property
    def metadata(self) -> ToolMetadata:
        """Return what a model is told of it."""
        return self._metadata

    def call(self, input: Any) -> ToolOutput:  # noqa: A002  # the library's name
        """Refuse: the worker performs it."""
        raise NotImplementedError(input)

    async def acall(self, input: Any) -> ToolOutput:  # noqa: A002  # the library's name
        """Refuse: the worker performs it."""
        raise NotImplementedError(input)


def _answer_in(output: ToolOutput) -> ToolAnswer:
    return ToolAnswer(text=output.content, is_error=output.is_error)


def _content(message: ChatMessage) -> list[Part]:
    told: list[Part] = []
    for block in message.blocks:
        match block:
            case TextBlock(text=said) if said:
                told.append(telling.text(said))
            case ThinkingBlock(content=thought) if thought:
                told.append(telling.thinking(thought))
            case _:
                pass
    return told


def _usage(found: Any) -> TokenUsage:
    """Read what a provider's raw answer says: OpenAI's names, or Anthropic's."""
    if not isinstance(found, dict):
        return TokenUsage()
    used: dict[str, Any] = found  # pyright: ignore[reportUnknownVariableType]
    if "prompt_tokens" in used:
        details = used.get("prompt_tokens_details") or {}
        return telling.tokens(
            whole_input=used["prompt_tokens"] or 0,
            output=used.get("completion_tokens") or 0,
            cache_read=details.get("cached_tokens") or 0,
        )
    read, written = (
        used.get(f"cache_{each}_input_tokens") or 0 for each in ("read", "creation")
    )
    return telling.tokens(
        # Anthropic does not count cached tokens among the input's.
        whole_input=(used.get("input_tokens") or 0) + read + written,
        output=used.get("output_tokens") or 0,
        cache_read=read,
        cache_write=written,
    )


def _messages(history: Sequence[HistoryMessage]) -> list[ChatMessage]:
    """Return a conversation as LlamaIndex has it."""
    return [_message(each) for each in history]


def _message(each: HistoryMessage) -> ChatMessage:
    match each.role:
        case "assistant":
            return ChatMessage(role="assistant", blocks=_blocks(each.message))
        case "toolResult":
            return ChatMessage(
                role="tool",
                content=text_of(each.message),
                additional_kwargs={"tool_call_id": each.message["toolCallId"]},
            )
        case "summary":
            summary = f"[Summary of what was said before]\n{each.message['summary']}"
            return ChatMessage(role="user", content=summary)
        case "user":
            return ChatMessage(role="user", content=text_of(each.message))


def _blocks(message: dict[str, Any]) -> list[Any]:
    blocks: list[Any] = []
    for part in message["content"]:
        match part:
            case {"type": "text", "text": said}:
                blocks.append(TextBlock(text=said))
            case {"type": "toolCall", "id": call_id, "name": name, "arguments": arguments}:
                blocks.append(
                    ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)
                )
            case _:
                pass
    return blocks
