"""One turn of a LlamaIndex agent."""

import asyncio
from typing import Any, cast

from llama_index.core.agent.workflow import AgentWorkflow
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.memory import ChatMemoryBuffer

from workers.agents import Hands, TurnRequest, loading, telling
from workers.agents.llamaindex.messages import to_memory
from workers.agents.llamaindex.watching import Watched
from workers.agents.telling import Telling
from workers.outcomes import AgentOutcome


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn.

    Promise: every message and result the model read or wrote stands on the stream; another
    attempt goes on after the last one.
    """
    told = Telling(request, hands, api="llamaindex")
    return await loading.ended(told, _take(request, hands, told))


async def _take(request: TurnRequest, hands: Hands, told: Telling) -> None:
    agent = await loading.made(
        request, "agent", (BaseWorkflowAgent, AgentWorkflow), noun="LlamaIndex agent"
    )
    watched = Watched(agent, request, hands, told)
    await hands.take_steering(1)
    history = await hands.history()
    told.take_up(history)
    if telling.is_answered(history):
        return
    if told.open_calls():
        await watched.answer_open_calls()
        history = await hands.history()
    workflow, memories = cast("Any", watched.workflow), cast("Any", ChatMemoryBuffer)
    handler = workflow.run(
        memory=memories.from_defaults(llm=watched.llm),
        chat_history=to_memory(history),
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
