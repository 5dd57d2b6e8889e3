"""Watches an agent take its steps, at the methods the library gives to writers of agents.

These are `take_step`, `get_tools` and `handle_tool_call_results`. The object that the config
names stays as it is: a copy of it is watched.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llama_index.core.agent.workflow import AgentOutput, AgentWorkflow
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import AsyncBaseTool, FunctionTool

from dispatch.models.history import INTERRUPTED
from workers.agents import (
    Hands,
    Perform,
    ToolAnswer,
    ToolCall,
    TurnRequest,
    loading,
    telling,
)
from workers.agents.llamaindex.messages import content_of, raw_of, usage_of
from workers.agents.llamaindex.streaming import Streaming
from workers.agents.llamaindex.tools import OwnTool, RecordedTool, answer_in
from workers.agents.telling import Telling
from workers.sandboxes import OnOutput

Workflow: TypeAlias = BaseWorkflowAgent | AgentWorkflow


class Watched:
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
                answer = ToolAnswer(text=INTERRUPTED, is_error=True)
                await self._told.answer(call.id, telling.saying(answer))

    def _watch(self, agent: BaseWorkflowAgent) -> None:
        prompt = loading.text_of(self._request, "systemPrompt")
        if prompt is not None:
            agent.system_prompt = prompt
        take_step: Callable[..., Any] = agent.take_step
        handle = agent.handle_tool_call_results

        async def watched_step(
            ctx: Any, llm_input: list[ChatMessage], tools: Any, memory: Any
        ) -> AgentOutput:
            self._context = ctx
            said = await self._steering(agent, ctx, memory)
            streaming = Streaming(ctx, self._told)
            output = await streaming.around(
                take_step(streaming, [*llm_input, *said], tools, memory)
            )
            await self._finish(output)
            return output

        async def watched_results(ctx: Any, results: Any, memory: Any) -> None:
            for each in results:
                if self._told.call_of(each.tool_id) is not None:
                    answer = answer_in(each.tool_output)
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
        raw = raw_of(output)
        await self._told.finish(
            [*content_of(output.response), *calls],
            usage=usage_of(raw),
            model=raw.get("model"),
            response_id=raw.get("id"),
        )

    async def _tools(self, *asked: Any, **more: Any) -> Sequence[AsyncBaseTool]:
        found = [*await self._get_tools(*asked, **more)]
        names = {each.metadata.name for each in found}
        own = [OwnTool(each) for each in self._request.tools if each.name not in names]
        owned = {each.metadata.name for each in own}
        return [
            # A handoff is the library's own step, not an act upon the world.
            each
            if each.metadata.name == "handoff"
            else RecordedTool(each, self._told, self._performing(each, owned))
            for each in [*found, *own]
        ]

    def _performing(self, tool: AsyncBaseTool, owned: set[str | None]) -> Perform | None:
        if tool.metadata.name in owned:
            return None

        async def perform(call: ToolCall, _on_output: OnOutput) -> ToolAnswer:
            arguments = dict(call.arguments)
            if isinstance(tool, FunctionTool) and tool.requires_context:
                arguments[tool.ctx_param_name or "ctx"] = self._context
            return answer_in(await tool.acall(**arguments))

        return perform


def _replace(of: Any, name: str, function: Callable[..., Any]) -> None:
    # Agents are pydantic models, which refuse attributes that are no fields.
    object.__setattr__(of, name, function)
