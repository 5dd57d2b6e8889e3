"""Each example of an agent holds a conversation with real workers, which are killed twice."""

import asyncio
import dataclasses
import signal

import pytest

from dispatch.models.history import INTERRUPTED
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.stores.postgres import agents, engine
from tests.system.houses import Casa
from tests.system.processes import Processes

COMPLETED = "signal.dispatch.completed"
EXAMPLES = {
    "langgraph": {"graph": "examples.langgraph_agent:graph"},
    "llamaindex": {"agent": "examples.llamaindex_agent:agent"},
    "pydantic-ai": {"agent": "examples.pydantic_ai_agent:agent"},
    "python": {"callable": "examples.python_agent:agent", "repeatable": True},
}


async def of(casa: Casa, thread_id, kind: type) -> list:
    found = [entry.payload for entry in await casa.entries(thread_id)]
    return [payload for payload in found if isinstance(payload, kind)]


@pytest.mark.parametrize("runner", EXAMPLES)
async def test_an_example_talks_across_two_kills(
    casa: Casa, processes: Processes, runner: str
) -> None:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        agent = await agents.insert(
            connection,
            house_id=casa.who.house_id,
            handle="example",
            runner=runner,
            config=EXAMPLES[runner],
        )
    casa = dataclasses.replace(casa, agent=agent)
    thread_id = await casa.dm()

    async def turns(count: int) -> None:
        await casa.wait(thread_id, lambda types: types.count(COMPLETED) == count)

    worker = processes.start_worker()
    await casa.post(thread_id, "hello")
    await turns(1)
    processes.end(worker, by=signal.SIGKILL)

    worker = processes.start_worker()
    await casa.post(thread_id, "run: sleep 60; echo done >> log; tail -n 1 log")
    await casa.wait(thread_id, lambda types: types.count("pi.assistant") == 2)
    await asyncio.sleep(0.3)
    processes.end(worker, by=signal.SIGKILL)
    processes.start_worker()
    await turns(2)
    await casa.post(thread_id, "and now?")
    await turns(3)

    said = [
        part["text"]
        for each in await of(casa, thread_id, Assistant)
        for part in each.message["content"]
        if part["type"] == "text"
    ]
    assert said == [
        "I have read 1 messages.",
        f"It says: {INTERRUPTED}",
        "I have read 6 messages.",
    ]
    assert len(await of(casa, thread_id, ToolResult)) == 1
    types = await casa.types(thread_id)
    assert types.count("signal.dispatch.run_lost") == 1
    assert (await casa.wait_status(thread_id, "open")).status == "open"
