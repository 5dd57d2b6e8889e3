"""Agents that give tasks, and a worker that looks once at what waits."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from dispatch.ids import DispatchId, ThreadId, WorkerId
from dispatch.models.houses import Agent
from dispatch.models.threads import Thread
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.usage import Cost, TokenUsage
from dispatch.stores.postgres import agents, engine, threads
from dispatch.streams.lanes import LaneRef
from tests.system.houses import Casa
from workers import turn
from workers.agents import Hands, ToolCall, TurnRequest, registry
from workers.heartbeat import Heartbeats
from workers.outcomes import AgentOutcome
from workers.outcomes import Completed as Done
from workers.outcomes import Failed as Broken

WORKER = WorkerId("test.4.d")
USED = TokenUsage(input=2, output=3, total_tokens=5, cost=Cost(total=0.5))
TASK = "delegate_task"


async def acting(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Give the tasks that the config names, side by side, and tell what came of them."""
    config = request.agent.config
    calls = [
        ToolCall(id=f"call {number}", name=TASK, arguments=each)
        for number, each in enumerate(config.get("gives", ()))
    ]
    known = [each for each in await hands.history() if each.own]
    if calls and not known:
        parts = [
            {"type": "toolCall", "id": c.id, "name": c.name, "arguments": c.arguments}
            for c in calls
        ]
        await hands.emit(_said(request, 1, *parts), checkpoint={})
    results = await asyncio.gather(*(hands.call_tool(call) for call in calls))
    if config.get("fails"):
        return Broken(reason="agent_error", message="as told", usage=USED)
    text = " | ".join(each.text for each in results) or f"heard: {request.text}"
    await hands.emit(_said(request, 2, {"type": "text", "text": text}))
    return Done(usage=USED)


def _said(request: TurnRequest, number: int, *parts: dict[str, Any]) -> Assistant:
    message = {"role": "assistant", "content": list(parts), "stopReason": "stop"}
    return Assistant(message_id=request.message_id(number), turn_index=0, message=message)


@contextmanager
def acted(casa: Casa) -> Iterator[None]:
    """Let every agent act as above, and no turn wait in its worker."""
    casa.record.settings = casa.record.settings.model_copy(
        update={"permission_grace_seconds": 0.0}
    )
    with mock.patch.object(registry, "find", return_value=acting):
        yield


def gives(*tasks: tuple[str, str], **config: Any) -> dict[str, Any]:
    named = [{"agent": agent, "task": task} for agent, task in tasks]
    return {"gives": named, "tools": [TASK], "repeatable": True, **config}


async def agent(casa: Casa, handle: str, config: dict[str, Any] | None = None) -> Agent:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        return await agents.insert(
            connection,
            house_id=casa.who.house_id,
            handle=handle,
            runner="acting",
            config=config or {},
        )


async def root(casa: Casa) -> ThreadId:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        new = threads.NewThread(house_id=casa.who.house_id)
        return (await threads.insert(connection, new=new)).id


async def run(casa: Casa, thread_id: ThreadId) -> None:
    """Let a worker look once at every lane of a thread."""
    record = casa.record
    heartbeats = Heartbeats(record.connection, worker_id=WORKER, settings=record.settings)
    for lane_id, lane in (await casa.state(thread_id)).lanes.items():
        if lane.has_work:
            ref = LaneRef(thread_id, type(casa.agent.id)(lane_id))
            await turn.run_lane(record, heartbeats, ref)


async def of(casa: Casa, thread_id: ThreadId, kind: Any) -> list[Any]:
    found = [each.payload for each in await casa.entries(thread_id)]
    return [each for each in found if isinstance(each, kind)]


async def children(casa: Casa, thread_id: ThreadId) -> list[Thread]:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        listed = await threads.list(connection, house_id=casa.who.house_id, limit=50)
    return sorted(
        (each for each in listed if each.parent_thread_id == thread_id), key=lambda t: t.id
    )


async def begun(casa: Casa, text: str = "@lead begin") -> tuple[ThreadId, DispatchId]:
    """Let the lead give its tasks and leave its worker."""
    thread_id = await root(casa)
    posted = await casa.post(thread_id, text)
    await run(casa, thread_id)
    return thread_id, posted.dispatches[0][0]


async def results(casa: Casa, thread_id: ThreadId) -> list[tuple[str, bool]]:
    found = await of(casa, thread_id, ToolResult)
    return [(each.message["content"][0]["text"], each.is_error) for each in found]
