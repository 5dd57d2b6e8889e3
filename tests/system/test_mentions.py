"""Several agents in one thread, on real workers: side by side, and asking each other."""

import asyncio
import json
from itertools import groupby

import pytest

from dispatch.ids import ThreadId
from dispatch.models.houses import Agent
from dispatch.payloads import content
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import Completed, Started
from dispatch.stores.postgres import agents, engine, threads
from dispatch.streams.entries import Entry
from tests.system.houses import Casa
from tests.system.processes import Processes
from tests.system.test_diagnose import Arbe, arbe

__all__ = ["arbe"]

COMPLETED = "signal.dispatch.completed"


async def second(casa: Casa) -> Agent:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        return await agents.insert(
            connection, house_id=casa.who.house_id, handle="two", runner="demo"
        )


async def house_thread(casa: Casa) -> ThreadId:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        new = threads.NewThread(house_id=casa.who.house_id)
        return (await threads.insert(connection, new=new)).id


async def watched(casa: Casa, thread_id: ThreadId, *, turns: int) -> list[Entry]:
    """Follow until so many turns have completed; return what ever stood there, in order."""
    seen: dict[str, Entry] = {}
    async with asyncio.timeout(60):
        while sum(isinstance(each.payload, Completed) for each in seen.values()) < turns:
            seen |= {each.id: each for each in await casa.entries(thread_id)}
            await asyncio.sleep(0.01)
    return [seen[entry_id] for entry_id in sorted(seen)]


async def test_two_agents_answer_side_by_side_each_in_its_lane(
    casa: Casa, processes: Processes
) -> None:
    two = await second(casa)
    processes.start_worker()
    processes.start_worker()
    thread_id = await house_thread(casa)
    posted = await casa.post(thread_id, "@demo @two steps: 4 0.4")
    assert {agent for _, agent in posted.dispatches} == {casa.agent.id, two.id}
    found = await watched(casa, thread_id, turns=2)
    starts = {e.payload.run_id: e.payload for e in found if isinstance(e.payload, Started)}
    assert len(starts) == 2
    lane_of = {run_id: start.agent_id for run_id, start in starts.items()}
    said: dict[str, list[str]] = {}
    voices: list[str] = []
    for entry in found:
        if entry.writer is None or not isinstance(entry.payload, Assistant | Chunk):
            continue
        lane = lane_of[entry.writer.partition(":")[0]]
        voices.append(lane)
        dispatch_id = str(entry.payload.message_id).partition(":")[0]
        assert starts[entry.writer.partition(":")[0]].dispatch_id == dispatch_id
        if isinstance(entry.payload, Assistant):
            said.setdefault(lane, []).append(content.text_of(entry.payload.message))
    steps = [f"Step {number} of 4." for number in (1, 2, 3, 4)]
    assert said == {str(casa.agent.id): steps, str(two.id): steps}
    # Neither waited for the other: their words alternate.
    assert len(list(groupby(voices))) >= 4
    places = {type(e.payload): [] for e in found}
    for place, entry in enumerate(found):
        places[type(entry.payload)].append(place)
    assert max(places[Started]) < min(places[Completed])
    await casa.wait_status(thread_id, "open")


async def test_an_agent_asks_another_and_is_not_woken_by_the_echo(
    casa: Casa, processes: Processes
) -> None:
    two = await second(casa)
    processes.start_worker()
    thread_id = await house_thread(casa)
    await casa.post(thread_id, "@demo say: \\@two, what does @ mean, asks \\@demo?")
    await watched(casa, thread_id, turns=2)
    await casa.wait_status(thread_id, "open")
    found = [each.payload for each in await casa.entries(thread_id)]
    turns = [each.agent_id for each in found if isinstance(each, Started)]
    assert turns == [str(casa.agent.id), str(two.id)]
    _, reply = (each for each in found if isinstance(each, Chat))
    assert (reply.by.id, reply.mentions, reply.hops) == (
        str(casa.agent.id),
        ("two",),
        1,
    )
    assert (await casa.types(thread_id)).count(COMPLETED) == 2


@pytest.mark.parametrize("words", ["\\@two, what does @ mean?", "ask \\@nobody"])
async def test_a_follower_stays_until_the_agents_that_were_asked_have_answered(
    casa: Casa, processes: Processes, arbe: Arbe, words: str
) -> None:
    two = await second(casa)
    processes.start_worker()
    thread_id = str(await house_thread(casa))
    ended = await arbe(
        *("thread", "entries", "create", thread_id, f"@demo say: {words}", "--follow", "--json")
    )
    assert ended.code == 0
    found = [json.loads(line) for line in ended.out.splitlines()]
    turns = [
        each["payload"]["agentId"]
        for each in found
        if each.get("payload", {}).get("type") == "signal.dispatch.started"
    ]
    asked = [str(two.id)] if "two" in words else []
    assert turns == [str(casa.agent.id), *asked]
    assert found[-2]["payload"]["type"] == COMPLETED
    assert found[-1]["outcome"] == "completed"
    again = await arbe("thread", "entries", "read", thread_id)
    assert again.code == 0
