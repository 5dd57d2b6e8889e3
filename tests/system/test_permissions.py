"""A tool that must be asked for: the turn waits for people, and holds no worker for long."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dispatch.api.app import create_app
from dispatch.errors import Conflict, Invalid
from dispatch.ids import ThreadId
from dispatch.operations import permissions
from dispatch.operations.permissions import Reply
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.stores.postgres import agents, engine
from tests.system import runners
from tests.system.houses import Casa
from tests.system.processes import Processes

WEATHER = {
    "name": "weather",
    "description": "What it is like outside.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
COMPLETED = "signal.dispatch.completed"
WAITING = "signal.dispatch.waiting"
REQUESTED = "signal.permission.requested"
GRANT, DENY = Reply(decision="grant"), Reply(decision="deny", message="too loud")


async def asks(casa: Casa, **config: object) -> ThreadId:
    """Let the agent ask for each command; return a thread with it."""
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        await agents.update(
            connection,
            agent_id=casa.agent.id,
            config={"permissions": {"run_command": "ask"}, **config},
        )
    return await casa.dm()


async def open_question(casa: Casa, thread_id: ThreadId) -> str:
    await casa.wait(thread_id, lambda types: REQUESTED in types)
    (found,) = await permissions.list_open(casa.record, casa.who, thread_id)
    assert found.question.asked.arguments == {"command": "echo hi"}
    return found.question.asked.permission_id


async def last_words(casa: Casa, thread_id: ThreadId) -> tuple[ToolResult, str]:
    said = [entry.payload for entry in await casa.entries(thread_id)]
    (result,) = [each for each in said if isinstance(each, ToolResult)]
    last = [each for each in said if isinstance(each, Assistant)][-1]
    return result, last.message["content"][0]["text"]


@pytest.mark.parametrize("grace_seconds", ["0.2", "30"])
async def test_a_granted_command_runs_once_and_its_turn_goes_on(
    casa: Casa, processes: Processes, grace_seconds: str
) -> None:
    processes.start_worker(ARBE_PERMISSION_GRACE_SECONDS=grace_seconds)
    thread_id = await asks(casa, repeatable=True)
    await casa.post(thread_id, "run: echo hi")
    permission_id = await open_question(casa, thread_id)
    leaves = grace_seconds == "0.2"
    if leaves:
        await casa.wait(thread_id, lambda types: WAITING in types)
    (in_house,) = await permissions.list_in_house(casa.record, casa.who)
    assert in_house.thread_id == thread_id
    await permissions.answer(casa.record, casa.who, thread_id, permission_id, GRANT)
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    result, last = await last_words(casa, thread_id)
    assert result.message["content"][0]["text"] == "hi\n"
    assert last == "The command ended with exit code 0."
    assert types.count("signal.dispatch.started") == (2 if leaves else 1)
    assert types.count(REQUESTED) == types.count("pi.tool_result") == 1
    assert await permissions.list_open(casa.record, casa.who, thread_id) == ()


async def test_a_refused_command_does_not_run_and_the_model_is_told_why(
    casa: Casa, processes: Processes
) -> None:
    processes.start_worker(ARBE_PERMISSION_GRACE_SECONDS="0.2")
    thread_id = await asks(casa, repeatable=True)
    await casa.post(thread_id, "run: echo hi")
    permission_id = await open_question(casa, thread_id)
    await permissions.answer(casa.record, casa.who, thread_id, permission_id, DENY)
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    result, _ = await last_words(casa, thread_id)
    assert result.is_error
    assert result.message["content"][0]["text"] == "Refused: too loud"


@pytest.mark.parametrize("default", ["grant", "deny"])
async def test_when_nobody_answers_in_time_the_default_does(
    casa: Casa, processes: Processes, default: str
) -> None:
    processes.start_worker(ARBE_PERMISSION_GRACE_SECONDS="0.2")
    config = {"permissionSeconds": 1.5, "permissionDefault": default}
    thread_id = await asks(casa, repeatable=True, **config)
    await casa.post(thread_id, "run: echo hi")
    types = await casa.wait(thread_id, lambda types: COMPLETED in types, timeout_seconds=30)
    assert "signal.permission.expired" in types
    result, _ = await last_words(casa, thread_id)
    assert result.is_error == (default == "deny")


async def test_a_turn_that_cannot_be_taken_up_again_waits_in_its_worker(
    casa: Casa, processes: Processes
) -> None:
    processes.start_worker(ARBE_PERMISSION_GRACE_SECONDS="0.2")
    thread_id = await asks(casa)
    await casa.post(thread_id, "run: echo hi")
    permission_id = await open_question(casa, thread_id)
    await permissions.answer(casa.record, casa.who, thread_id, permission_id, GRANT)
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert WAITING not in types


async def test_a_question_outlives_the_worker_that_asked(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker()
    thread_id = await asks(casa, repeatable=True)
    await casa.post(thread_id, "run: echo hi")
    permission_id = await open_question(casa, thread_id)
    worker.kill()
    processes.start_worker()
    await casa.wait(thread_id, lambda types: "signal.dispatch.run_lost" in types)
    await permissions.answer(casa.record, casa.who, thread_id, permission_id, GRANT)
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    result, _ = await last_words(casa, thread_id)
    assert (types.count(REQUESTED), result.is_error) == (1, False)


async def test_an_answer_is_given_once_and_fits_its_question(
    casa: Casa, processes: Processes
) -> None:
    processes.start_worker(ARBE_PERMISSION_GRACE_SECONDS="0.2")
    thread_id = await asks(casa, repeatable=True)
    await casa.post(thread_id, "run: echo hi")
    permission_id = await open_question(casa, thread_id)
    call = (casa.record, casa.who, thread_id, permission_id)
    with pytest.raises(Invalid):
        await permissions.answer(*call, Reply(decision="grant", output="mine"))
    first = await permissions.answer(*call, GRANT)
    assert await permissions.answer(*call, GRANT) == await permissions.answer(*call, GRANT)
    assert first.answer is not None
    with pytest.raises(Conflict, match="another answer"):
        await permissions.answer(*call, DENY)
    await casa.wait(thread_id, lambda types: COMPLETED in types)


@pytest.fixture
async def http(casa: Casa) -> AsyncIterator[httpx.AsyncClient]:
    """The API in this process, on the system's servers."""
    app = create_app(casa.record.settings)
    app.state.record = casa.record
    headers = {"Authorization": f"Bearer {casa.token}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://arbe", headers=headers
    ) as client:
        yield client


@pytest.mark.parametrize("is_error", [False, True])
async def test_a_function_is_called_by_the_program_of_the_agents_people(
    casa: Casa, processes: Processes, http: httpx.AsyncClient, tmp_path: Path, is_error: bool
) -> None:
    path = runners.offer(tmp_path)
    first = processes.start_worker(PYTHONPATH=path, ARBE_PERMISSION_GRACE_SECONDS="0.2")
    changed = await http.patch(
        "/v1/agents/@demo",
        json={"runner": "calling", "config": {"functions": [WEATHER], "repeatable": True}},
    )
    assert changed.status_code == 200, changed.text
    thread_id = await casa.dm()
    await casa.post(thread_id, "how is the weather?")
    await casa.wait(thread_id, lambda types: WAITING in types)
    first.kill()
    url = f"/v1/threads/{thread_id}/permissions"
    (asked,) = (await http.get(url)).json()["permissions"]
    assert (asked["kind"], asked["toolName"]) == ("output", "weather")
    assert asked["arguments"] == {"city": "Oslo"}
    refused = await http.post(f"{url}/{asked['id']}", json={"decision": "grant"})
    assert refused.status_code == 422
    told = {"decision": "grant", "output": "7 degrees", "isError": is_error}
    assert (await http.post(f"{url}/{asked['id']}", json=told)).status_code == 200
    processes.start_worker(PYTHONPATH=path)
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count(REQUESTED) == types.count("pi.tool_result") == 1
    _, last = await last_words(casa, thread_id)
    assert last == ("failed: 7 degrees" if is_error else "done: 7 degrees")
