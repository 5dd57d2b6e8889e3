"""The real pi on real workers that are killed: one conversation, told once."""

import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise

import pytest
import pytest_asyncio

from dispatch.operations import cancel_many
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.stores.postgres import agents, engine
from tests.agents.pi import installs
from tests.agents.pi import provider as model
from tests.agents.pi.hands import until
from tests.agents.pi.provider import Provider
from tests.system.houses import Casa
from tests.system.processes import Processes

COMPLETED = "signal.dispatch.completed"
CANCELLED = "signal.dispatch.cancelled"
ECHO = ("call_1", "run_command", {"command": "echo from the sandbox; echo $TESTED_API_KEY"})


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Provider]:
    async with model.serving() as found:
        yield found


@pytest_asyncio.fixture
async def pi_casa(casa: Casa, provider: Provider) -> Casa:
    """A house whose agent is pi, asking the scripted provider."""
    config = {"baseUrl": provider.url, "apiKeyEnv": "TESTED_API_KEY"}
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        agent = await agents.insert(
            connection,
            house_id=casa.who.house_id,
            handle="coder",
            runner="pi",
            model="fake-1",
            config=config,
        )
    return replace(casa, agent=agent)


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "ARBE_PI_COMMAND": str(installs.folder(installs.NEW)),
        "ARBE_PI_RETRY_SECONDS": "0.1",
        "TESTED_API_KEY": "sk-not-for-the-agents-eyes",
    }


async def test_three_turns_survive_workers_killed_between_and_within_them(
    pi_casa: Casa, processes: Processes, provider: Provider, environment: dict[str, str]
) -> None:
    provider.steps = [
        model.text("Hello Ada."),
        model.tool_calls(ECHO, say="Let me look."),
        model.stall,
        model.text("It said so."),
        model.text("Goodbye."),
    ]
    worker = processes.start_worker(**environment)
    thread_id = await pi_casa.dm()
    await pi_casa.post(thread_id, "Hi, I am Ada.")
    await pi_casa.wait(thread_id, lambda types: COMPLETED in types)
    processes.end(worker, by=signal.SIGKILL)

    worker = processes.start_worker(**environment)
    await pi_casa.post(thread_id, "What does it say?")
    await pi_casa.wait(thread_id, lambda types: "pi.tool_result" in types)
    await until(lambda: len(provider.requests) == 3, within_seconds=30)
    processes.end(worker, by=signal.SIGKILL)

    processes.start_worker(**environment)
    await pi_casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    await pi_casa.post(thread_id, "Bye.")
    types = await pi_casa.wait(thread_id, lambda types: types.count(COMPLETED) == 3)

    found = [each.payload for each in await pi_casa.entries(thread_id)]
    said = [
        part["text"]
        for each in found
        if isinstance(each, Assistant)
        for part in each.message["content"]
        if part["type"] == "text"
    ]
    assert said == ["Hello Ada.", "Let me look.", "It said so.", "Goodbye."]
    (result,) = [each for each in found if isinstance(each, ToolResult)]
    assert result.message["content"][0]["text"].strip() == "from the sandbox"
    assert types.count("signal.dispatch.run_lost") == 1
    contexts = provider.contexts()
    assert contexts[3] == contexts[2]
    for before, after in pairwise(contexts):
        assert after[: len(before)] == before
    assert len(contexts[-1]) == 7
    row = await pi_casa.wait_status(thread_id, "open")
    assert row.usage.total_tokens == 4 * 1020


async def test_a_drained_workers_turn_goes_on_elsewhere(
    pi_casa: Casa, processes: Processes, provider: Provider, environment: dict[str, str]
) -> None:
    provider.steps = [model.tool_calls(ECHO), model.stall, model.text("It said so.")]
    worker = processes.start_worker(**environment)
    thread_id = await pi_casa.dm()
    await pi_casa.post(thread_id, "What does it say?")
    await pi_casa.wait(thread_id, lambda types: "pi.tool_result" in types)
    await until(lambda: len(provider.requests) == 2, within_seconds=30)
    assert processes.end(worker, by=signal.SIGTERM) == 0

    processes.start_worker(**environment)
    types = await pi_casa.wait(thread_id, lambda types: COMPLETED in types)
    assert "signal.dispatch.released" in types
    assert types.count("pi.tool_result") == 1
    assert provider.contexts()[2] == provider.contexts()[1]


async def test_a_cancelled_turn_says_how_far_it_came(
    pi_casa: Casa, processes: Processes, provider: Provider, environment: dict[str, str]
) -> None:
    provider.otherwise = model.stall
    processes.start_worker(**environment)
    thread_id = await pi_casa.dm()
    accepted = await pi_casa.post(thread_id, "Go.")
    await pi_casa.wait_words(thread_id, timeout_seconds=30)
    ((dispatch_id, _),) = accepted.dispatches
    await cancel_many.cancel_dispatch(pi_casa.record, pi_casa.who, thread_id, dispatch_id)
    await pi_casa.wait(thread_id, lambda types: CANCELLED in types)

    found = [each.payload for each in await pi_casa.entries(thread_id)]
    (told,) = [each for each in found if isinstance(each, Assistant)]
    assert told.message["stopReason"] == "aborted"
    assert told.message["content"][0]["text"] == "half an ans"
