"""What is LangGraph's own: graphs of any shape, and their checkpoints beside our record."""

import asyncio
import copy
import dataclasses
from typing import Any

import psycopg
import pytest

from dispatch.operations import delete_thread
from dispatch.payloads import llm
from dispatch.payloads.signals import Completed, Failed
from tests.agents import graphs
from tests.agents.doubles import Double
from tests.agents.model import Call, Model, calls, says
from tests.agents.stage import Stage, a_stage
from tests.system.houses import Casa
from workers.sweeps import checkpoints


@pytest.fixture
def acting(casa: Casa, model: Model):
    """Make a stage for one of the graphs."""
    graphs.VISITS.clear()

    async def act(graph: str, **config: Any) -> Stage:
        path = {"graph": f"tests.agents.graphs:{graph}"}
        return await a_stage(casa, Double("langgraph", {**path, **config}), model)

    return act


BOOK = Call("call-1", "book", {"thing": "a room"})


@pytest.mark.parametrize("graph", ["compiled", "with_own_tools", "in_threads", "wrapped"])
async def test_a_graph_that_knows_nothing_of_us_is_told(acting, graph: str) -> None:
    stage = await acting(graph)
    stage.model.script(calls(BOOK), says("Booked", "."))
    await stage.say("book a room")
    spoken = [t for t in await stage.casa.types(stage.thread_id) if t.startswith("pi.")]
    assert spoken == ["pi.assistant", "pi.tool_result", "pi.assistant"]
    (result,) = await stage.of(llm.ToolResult)
    assert result.message["content"][0]["text"] == "booked a room"
    assert await stage.answers() == ["Booked."]
    assert not await stage.of(llm.Chunk)


async def test_a_tool_node_of_an_unaware_graph_acts_after_its_intent(acting) -> None:
    stage = await acting("compiled")
    seen: list[list[str]] = []

    async def act(_thing: str) -> str:
        seen.append(await stage.casa.types(stage.thread_id))
        return "booked"

    stage.model.act = act
    stage.model.script(calls(BOOK), says("Booked."))
    await stage.say("book a room")
    assert "pi.assistant" in seen[0]


async def test_a_wrapper_the_node_had_stays(acting) -> None:
    stage = await acting("wrapped")
    stage.model.script(calls(BOOK), says("Booked."))
    await stage.say("book a room")
    assert "wrapper" in graphs.VISITS


async def test_messages_of_no_model_are_told(acting) -> None:
    stage = await acting("without_a_model")
    await stage.say("hello")
    await stage.say("hello again")
    assert await stage.answers() == ["Good morning.", "Good morning."]


async def test_what_a_graph_keeps_beside_its_messages_lasts(acting) -> None:
    stage = await acting("counting")
    stage.model.script(says("a"), says("b"), says("c"))
    for text in ("one", "two", "three"):
        await stage.say(text)
    assert await stage.answers() == ["Turn 1.", "a", "Turn 2.", "b", "Turn 3.", "c"]
    assert len(stage.model.asked[-1]) == 8


async def test_a_turn_taken_back_is_not_in_the_graphs_state(acting) -> None:
    """It goes on from the checkpoint before the turn, not from nothing: the count is kept."""
    stage = await acting("counting")
    stage.model.script(says("a"), says("Wrong", hold=asyncio.Event()), says("b"))
    await stage.say("one")
    await stage.post("a mistake")
    async with stage.working():
        await stage.casa.wait_words(stage.thread_id)
        await stage.post("two", when_busy="rollback")
        await stage.renew()
    assert (await stage.answers())[-2:] == ["Turn 2.", "b"]
    told = [each.text for each in stage.model.asked[-1]]
    assert told == ["one", "Turn 1.", "a", "two", "Turn 2."]


async def test_the_checkpoints_are_langgraphs_own_in_our_database(acting) -> None:
    stage = await acting("without_a_model")
    await stage.say("hello")
    url = stage.casa.record.settings.database_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        counted = await connection.execute(
            "select count(*) > 0 from langgraph.checkpoints where thread_id = %s",
            [f"{stage.thread_id}:{stage.casa.agent.id}"],
        )
        assert await counted.fetchone() == (True,)


async def checkpoints_of(stage: Stage) -> int:
    url = stage.casa.record.settings.database_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        counted = await connection.execute(
            "select count(*) from langgraph.checkpoints where thread_id like %s",
            [f"{stage.thread_id}:%"],
        )
        found = await counted.fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("batch", [1, 200])
async def test_a_deleted_threads_checkpoints_go_and_others_stay(acting, batch: int) -> None:
    kept = await acting("without_a_model")
    casa = kept.casa
    gone = dataclasses.replace(kept, thread_id=await casa.dm())
    await kept.say("hello")
    await gone.say("hello")
    before = await checkpoints_of(kept)
    record = copy.copy(casa.record)
    record.settings = casa.record.settings.model_copy(update={"sweep_batch": batch})
    await checkpoints.sweep(record)

    await delete_thread.delete_thread(casa.record, casa.who, gone.thread_id)
    assert await checkpoints_of(gone) > 0
    assert await checkpoints.sweep(record) == {"forgotten": 1}

    assert (await checkpoints_of(gone), await checkpoints_of(kept)) == (0, before)
    assert await checkpoints.sweep(record) == {"forgotten": 0}


async def test_a_graph_that_asks_is_answered_by_the_next_turn(acting) -> None:
    stage = await acting("asking")
    await stage.say("paint it")
    assert await stage.answers() == ["Which colour?"]
    await stage.say("blue")
    assert await stage.answers() == ["Which colour?", "You said blue."]


async def test_another_attempt_goes_on_from_the_graphs_checkpoint(acting) -> None:
    stage = await acting("in_two_steps", maxAttempts=2)
    reached = asyncio.Event()

    class Reached(asyncio.Event):
        async def wait(self) -> bool:
            reached.set()
            return await super().wait()

    stage.model.script(says(hold=Reached()))
    await stage.post("go")
    await stage.die_in(reached)
    stage.model.script(says("Thought."))
    await stage.work()
    assert isinstance(await stage.ending(), Completed)
    assert graphs.VISITS == ["first", "think", "think"]
    assert await stage.answers() == ["first is done.", "Thought."]


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        ("nonsense", "is no graph"),
        ("there_is_none", "cannot be imported"),
        ("without_messages", "no `messages`"),
    ],
)
async def test_what_is_no_graph_fails_the_turn_and_says_so(
    acting, graph: str, problem: str
) -> None:
    stage = await acting(graph)
    await stage.say("hello")
    ending = await stage.ending()
    assert isinstance(ending, Failed)
    assert ending.reason == "invalid"
    assert problem in (ending.message or "")
