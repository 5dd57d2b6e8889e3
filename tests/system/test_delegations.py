"""Agents that give tasks to agents, in real worker processes that die."""

import asyncio
import time
from typing import Any
from uuid import UUID

from dispatch.ids import ThreadId
from dispatch.models.threads import Thread
from dispatch.operations import cancel_many
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.signals import Delegated, DelegationEnded
from dispatch.stores.postgres import agents, engine, threads
from tests.system.houses import Casa
from tests.system.processes import Processes

COMPLETED = "signal.dispatch.completed"
WAITING = "signal.dispatch.waiting"
ENDED = "signal.dispatch.delegation_ended"
HASTY = {"ARBE_PERMISSION_GRACE_SECONDS": "0.2"}


async def lead(casa: Casa, **config: Any) -> ThreadId:
    """Let the agent give tasks, to two others; return a thread with it."""
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        for handle in ("one", "two"):
            await agents.insert(
                connection,
                house_id=casa.who.house_id,
                handle=handle,
                runner="demo",
                config={"repeatable": True},
            )
        given = {"tools": ["run_command", "delegate_task"], "repeatable": True, **config}
        await agents.update(connection, agent_id=casa.agent.id, config=given)
    return await casa.dm()


async def of(casa: Casa, thread_id: ThreadId, kind: Any) -> list[Any]:
    found = [each.payload for each in await casa.entries(thread_id)]
    return [each for each in found if isinstance(each, kind)]


async def tasks(casa: Casa, thread_id: ThreadId, count: int = 2) -> list[Thread]:
    """Wait until a turn has given that many; return their threads as they were given."""
    delegated = "signal.dispatch.delegated"
    await casa.wait(thread_id, lambda types: types.count(delegated) >= count)
    asked = await of(casa, thread_id, Delegated)
    return [await casa.row(ThreadId(UUID(each.thread_id))) for each in asked]


async def last_words(casa: Casa, thread_id: ThreadId) -> str:
    [*_, last] = await of(casa, thread_id, Assistant)
    return "".join(each.get("text", "") for each in last.message["content"])


async def heard_once(casa: Casa, thread_id: ThreadId, count: int = 2) -> None:
    """Each task stands once: given, ended, and as a result."""
    for kind in (Delegated, DelegationEnded, ToolResult):
        assert len(await of(casa, thread_id, kind)) == count
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        listed = await threads.list(connection, house_id=casa.who.house_id, limit=50)
    assert sum(each.parent_thread_id == thread_id for each in listed) == count


async def test_two_tasks_run_side_by_side_while_nobody_holds_a_worker_for_the_turn(
    casa: Casa, processes: Processes
) -> None:
    # One slot: a turn that kept it would wait for its tasks for ever.
    processes.start_worker(concurrency=1, **HASTY)
    thread_id = await lead(casa)
    await casa.post(thread_id, "delegate: one say: red\ntwo say: blue")
    types = await casa.wait(thread_id, lambda types: COMPLETED in types, timeout_seconds=60)
    assert WAITING in types
    assert await last_words(casa, thread_id) == "one: red\ntwo: blue"
    await heard_once(casa, thread_id)
    rows = [
        await casa.wait_status(each.id, "completed") for each in await tasks(casa, thread_id)
    ]
    [result, other] = await of(casa, thread_id, ToolResult)
    used = sum(row.usage.total_tokens for row in rows)
    assert used == result.usage.total_tokens + other.usage.total_tokens > 0
    own = [
        each.message["usage"]["totalTokens"] for each in await of(casa, thread_id, Assistant)
    ]
    row = await casa.wait_status(thread_id, "open")
    assert used < row.usage.total_tokens <= used + sum(own)


async def test_a_task_outlives_the_worker_of_whoever_waits_for_it(
    casa: Casa, processes: Processes
) -> None:
    giver = processes.start_worker(**HASTY)
    thread_id = await lead(casa)
    await casa.post(thread_id, "delegate: one sleep: 3\ntwo say: blue")
    await casa.wait(thread_id, lambda types: WAITING in types)
    giver.kill()
    processes.start_worker(**HASTY)
    await casa.wait(thread_id, lambda types: COMPLETED in types, timeout_seconds=60)
    first, second = (await last_words(casa, thread_id)).splitlines()
    assert (first, second) == ("one: Sleeping 3 s … Awake again.", "two: blue")
    await heard_once(casa, thread_id)


async def test_a_worker_killed_while_its_turn_waits_in_it_leaves_the_task_alone(
    casa: Casa, processes: Processes
) -> None:
    giver = processes.start_worker(ARBE_PERMISSION_GRACE_SECONDS="60")
    thread_id = await lead(casa)
    await casa.post(thread_id, "delegate: one sleep: 2")
    [task] = await tasks(casa, thread_id, 1)
    giver.kill()
    processes.start_worker(**HASTY)
    await casa.wait(thread_id, lambda types: COMPLETED in types, timeout_seconds=60)
    assert "Awake again." in await last_words(casa, thread_id)
    await heard_once(casa, thread_id, 1)
    assert (await casa.wait_status(task.id, "completed")).parent_call_id is not None


async def test_a_cancel_ends_the_turn_and_its_tasks(casa: Casa, processes: Processes) -> None:
    processes.start_worker(**HASTY)
    thread_id = await lead(casa)
    posted = await casa.post(thread_id, "delegate: one sleep: 600\ntwo sleep: 600")
    given = await tasks(casa, thread_id)
    await casa.wait(thread_id, lambda types: WAITING in types)
    for task in given:
        await casa.wait_words(task.id)
    dispatch_id = posted.dispatches[0][0]
    await cancel_many.cancel_dispatch(casa.record, casa.who, thread_id, dispatch_id)
    for task in given:
        await casa.wait_status(task.id, "cancelled", timeout_seconds=60)
    assert ENDED not in await casa.types(thread_id)


async def test_a_turn_that_fails_for_good_ends_its_tasks(
    casa: Casa, processes: Processes
) -> None:
    giver = processes.start_worker(ARBE_PERMISSION_GRACE_SECONDS="60")
    thread_id = await lead(casa, maxAttempts=1)
    await casa.post(thread_id, "delegate: one sleep: 600")
    [task] = await tasks(casa, thread_id, 1)
    giver.kill()
    processes.start_worker(**HASTY)
    failed = "signal.dispatch.failed"
    await casa.wait(thread_id, lambda types: failed in types, timeout_seconds=60)
    deadline = time.monotonic() + 60
    while (await casa.row(task.id)).status not in {"cancelled", "failed"}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a_task_that_takes_too_long_is_given_up(casa: Casa, processes: Processes) -> None:
    processes.start_worker(**HASTY)
    thread_id = await lead(casa, delegationSeconds=1.5)
    await casa.post(thread_id, "delegate: one sleep: 600")
    [task] = await tasks(casa, thread_id, 1)
    await casa.wait(thread_id, lambda types: COMPLETED in types, timeout_seconds=60)
    assert "given up" in await last_words(casa, thread_id)
    await casa.wait_status(task.id, "cancelled", timeout_seconds=60)
