"""Tasks that agents give to agents: made once, heard once, within limits."""

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any
from unittest import mock

import pytest

from dispatch.errors import ArbeError
from dispatch.ids import ThreadId
from dispatch.models import tools
from dispatch.operations import (
    cancel_many,
    delegations,
    delete_thread,
    permissions,
    project,
    reconcile,
)
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.signals import (
    Completed,
    Delegated,
    DelegationEnded,
    PermissionRequested,
)
from dispatch.stores.postgres import agents, engine
from dispatch.streams import entries, lanes, runs
from tests.operations.giving import (
    TASK,
    USED,
    acted,
    agent,
    begun,
    children,
    gives,
    of,
    results,
    root,
    run,
)
from tests.system.houses import Casa
from workers import ledger
from workers.agents import ToolCall
from workers.sweeps import cancellations as cancelling


@pytest.fixture(autouse=True)
def acting(casa: Casa) -> Iterator[None]:
    with acted(casa):
        yield


async def test_a_task_is_a_thread_whose_answer_is_the_calls_result(casa: Casa) -> None:
    lead = await agent(casa, "lead", gives(("@helper", "@lead, look at this")))
    helper = await agent(casa, "helper")
    top, dispatch_id = await begun(casa)
    assert (await casa.types(top))[-2:] == [
        "signal.dispatch.delegated",
        "signal.dispatch.waiting",
    ]
    [child] = await children(casa, top)
    assert (child.status, child.parent_dispatch_id, child.parent_call_id) == (
        "idle",
        dispatch_id,
        "call 0",
    )
    [task] = await of(casa, child.id, Chat)
    assert (task.text, task.by.kind, task.by.id) == (
        "@lead, look at this",
        "agent",
        str(lead.id),
    )
    [asked] = await of(casa, top, Delegated)
    assert (asked.thread_id, asked.agent_id) == (str(child.id), str(helper.id))
    await run(casa, child.id)
    assert (await casa.row(child.id)).status == "completed"
    [ended] = await of(casa, top, DelegationEnded)
    assert (ended.status, ended.text) == ("completed", "heard: @lead, look at this")
    await run(casa, top)
    assert await results(casa, top) == [("heard: @lead, look at this", False)]
    [result] = await of(casa, top, ToolResult)
    assert result.message["details"]["threadId"] == str(child.id)
    assert (await casa.row(top)).status == "open"
    assert len(await of(casa, top, Completed)) == 1
    assert len(await of(casa, top, Chat)) == 1, "a task's answer wakes nobody else"


async def test_usage_of_a_task_is_in_its_row_and_once_in_its_parents(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one"), ("helper", "two")))
    await agent(casa, "helper")
    top, _ = await begun(casa)
    for child in await children(casa, top):
        await run(casa, child.id)
        assert (await casa.row(child.id)).usage.total_tokens == USED.total_tokens
    await run(casa, top)
    told = await of(casa, top, ToolResult)
    assert [each.usage for each in told] == [USED, USED]
    assert [each.message["usage"]["totalTokens"] for each in told] == [5, 5]


async def test_tasks_of_one_message_run_side_by_side(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one"), ("other", "two")))
    await agent(casa, "helper")
    await agent(casa, "other")
    top, _ = await begun(casa)
    first, second = await children(casa, top)
    await run(casa, second.id)
    await run(casa, top)
    assert not await of(casa, top, ToolResult), "it waits for both"
    await run(casa, first.id)
    await run(casa, top)
    assert sorted(await results(casa, top)) == [("heard: one", False), ("heard: two", False)]
    assert len(await of(casa, top, Delegated)) == 2


async def test_a_task_that_fails_is_an_error_that_says_why(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one")))
    await agent(casa, "helper", {"fails": True})
    top, _ = await begun(casa)
    [child] = await children(casa, top)
    await run(casa, child.id)
    await run(casa, top)
    assert await results(casa, top) == [("The task failed (agent_error): as told", True)]
    assert (await casa.row(child.id)).status == "failed"
    assert len(await of(casa, top, Completed)) == 1, "the turn goes on"


async def test_a_cancelled_task_is_heard_of(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one")))
    await agent(casa, "helper")
    top, _ = await begun(casa)
    [child] = await children(casa, top)
    await cancel_many.cancel_thread(casa.record, casa.who, child.id, message="not now")
    await run(casa, top)
    assert await results(casa, top) == [("The task was cancelled: not now", True)]
    assert (await casa.row(child.id)).status == "cancelled"


async def test_a_deleted_task_is_found_by_the_sweep(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one")))
    await agent(casa, "helper")
    top, _ = await begun(casa)
    [child] = await children(casa, top)
    await delete_thread.delete_thread(casa.record, casa.who, child.id)
    await reconcile.reconcile(casa.record, top)
    await run(casa, top)
    [(text, is_error)] = await results(casa, top)
    assert is_error
    assert "deleted" in text


async def test_a_task_that_takes_too_long_is_given_up_and_cancelled(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one"), delegationSeconds=0.001))
    await agent(casa, "helper")
    top, _ = await begun(casa)
    [child] = await children(casa, top)
    await asyncio.sleep(0.01)
    await reconcile.reconcile(casa.record, top)
    await run(casa, top)
    assert await results(casa, top) == [
        ("The task was given up: it took longer than 0.001 s.", True)
    ]
    await cancelling.sweep(casa.record)
    assert (await casa.row(child.id)).status == "cancelled"
    assert len(await of(casa, top, DelegationEnded)) == 1


async def test_an_end_that_nobody_told_is_told_by_the_sweeps(casa: Casa) -> None:
    """The task's worker dies between its terminal and the telling."""
    await agent(casa, "lead", gives(("helper", "one")))
    await agent(casa, "helper")
    top, dispatch_id = await begun(casa)
    [child] = await children(casa, top)
    died = mock.AsyncMock(side_effect=_Died)
    with mock.patch.object(delegations, "tell_parents", died), pytest.raises(_Died):
        await run(casa, child.id)
    assert await lanes.is_dirty(casa.record.connection, child.id)
    await asyncio.gather(*(project.project(casa.record, child.id) for _ in range(3)))
    assert not await lanes.is_dirty(casa.record.connection, child.id)
    assert len(await of(casa, top, DelegationEnded)) == 1
    assert await entries.list_asks(casa.record.connection, top, dispatch_id) == ()


class _Died(Exception):
    """The process is gone."""


async def test_an_end_before_the_question_stood_is_heard_by_who_asks(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one")))
    await agent(casa, "helper")
    begin = delegations.begin

    async def ended_at_once(*arguments: Any) -> Any:
        made = await begin(*arguments)
        await run(casa, made.thread_id)
        return made

    with mock.patch.object(delegations, "begin", ended_at_once):
        top, _ = await begun(casa)
    assert await results(casa, top) == [("heard: one", False)]
    assert "signal.dispatch.waiting" not in await casa.types(top)


@pytest.mark.parametrize("dies", ["before the entry", "before the question"])
async def test_a_death_before_the_question_stands_makes_no_second_task(
    casa: Casa, dies: str
) -> None:
    await agent(casa, "lead", gives(("helper", "one"), retryBackoffSeconds=0.001))
    await agent(casa, "helper")
    place = (delegations.narrate, "birth") if dies == "before the entry" else (runs, "ask")
    top = await _dying(casa, *place)
    [(text, is_error)] = await results(casa, top)
    assert (is_error, text.partition(":")[0]) == (True, "Interrupted")
    assert len(await of(casa, top, Completed)) == 1
    await cancelling.sweep(casa.record)
    [child] = await children(casa, top)
    assert not (await casa.state(child.id)).has_work
    assert not await of(casa, child.id, Assistant)


async def test_a_death_after_the_question_goes_on_with_its_task(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one"), retryBackoffSeconds=0.001))
    await agent(casa, "helper")
    top = await _dying(casa, delegations, "look_at")
    [child] = await children(casa, top)
    await run(casa, child.id)
    await run(casa, top)
    assert await results(casa, top) == [("heard: one", False)]
    assert len(await of(casa, top, Delegated)) == 1


async def test_a_call_that_is_made_at_once_and_again_has_one_task(casa: Casa) -> None:
    lead = await agent(casa, "lead")
    await agent(casa, "helper")
    top = await root(casa)
    posted = await casa.post(top, "@lead begin")
    call = delegations.Call(
        agent=lead,
        thread_id=top,
        dispatch_id=posted.dispatches[0][0],
        call_id="x" * 3000,
        handle="helper",
        text="one",
        max_depth=3,
    )
    made = await asyncio.gather(*(delegations.begin(casa.record, call) for _ in range(5)))
    assert len({each.id for each in made}) == 1
    [child] = await children(casa, top)
    assert len(await of(casa, child.id, Chat)) == 1


async def _dying(casa: Casa, module: Any, name: str) -> ThreadId:
    """Let a run end at some step without another word, and the next attempt take over."""
    real, deaths = getattr(module, name), iter([RuntimeError()])

    async def once(*arguments: Any, **named: Any) -> Any:
        for death in deaths:
            raise death
        return await real(*arguments, **named)

    with (
        mock.patch.object(module, name, once),
        mock.patch.object(ledger, "_as_answer", _raises),
    ):
        top, _ = await begun(casa)
        await asyncio.sleep(0.01)
        await run(casa, top)
    return top


async def _raises(_call: ToolCall, act: Awaitable[Any]) -> Any:
    """Make no answer of what is raised: the process is gone."""
    return await act


@pytest.mark.parametrize(
    ("config", "tasks", "words"),
    [
        ({"delegatesTo": ["@other"]}, [("helper", "one")], "delegatesTo"),
        ({"maxDelegations": 1}, [("helper", "one"), ("helper", "two")], "MAX_DELEGATIONS"),
        ({"maxOpenDelegations": 1}, [("helper", "1"), ("helper", "2")], "MAX_OPEN_DELEGATIONS"),
        ({"maxDelegationDepth": 0}, [("helper", "one")], "MAX_DELEGATION_DEPTH"),
        ({}, [("nobody", "one")], "nobody"),
        ({}, [("quiet", "one")], "never"),
        ({}, [("helper", " ")], "text"),
        ({"permissions": {TASK: "deny"}}, [("helper", "one")], "Refused"),
    ],
)
async def test_beyond_a_limit_the_model_is_told_which(
    casa: Casa, config: dict[str, Any], tasks: list[tuple[str, str]], words: str
) -> None:
    await agent(casa, "lead", gives(*tasks, **config))
    await agent(casa, "helper")
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        await agents.insert(
            connection,
            house_id=casa.who.house_id,
            handle="quiet",
            runner="acting",
            trigger_mode="never",
        )
    top, _ = await begun(casa)
    for child in await children(casa, top):
        await run(casa, child.id)
    await run(casa, top)
    found = await results(casa, top)
    refused = [text for text, is_error in found if is_error]
    assert len(found) == len(tasks)
    assert len(refused) == 1
    assert words in refused[0]


async def test_an_agent_that_gives_tasks_to_itself_is_bounded(casa: Casa) -> None:
    await agent(casa, "lead", gives(("lead", "again")))
    top, _ = await begun(casa)
    deepest, line = top, [top]
    while found := await children(casa, deepest):
        deepest = found[0].id
        line.append(deepest)
        await run(casa, deepest)
    assert len(line) == 1 + casa.record.settings.max_delegation_depth
    for each in reversed(line):
        await run(casa, each)
    [(text, is_error)] = await results(casa, top)
    assert (is_error, "MAX_DELEGATION_DEPTH" in text) == (False, True)
    [task] = await of(casa, line[1], Chat)
    assert task.delegated_by is not None


async def test_tasks_are_no_questions_for_people_and_may_be_asked_for(casa: Casa) -> None:
    config = gives(("helper", "one"), permissions={TASK: "ask"})
    await agent(casa, "lead", config)
    await agent(casa, "helper")
    top, _ = await begun(casa)
    [asked] = await permissions.list_open(casa.record, casa.who, top)
    assert not await children(casa, top)
    await permissions.answer(
        casa.record,
        casa.who,
        top,
        asked.question.asked.permission_id,
        permissions.Reply(decision="grant"),
    )
    await run(casa, top)
    assert await permissions.list_open(casa.record, casa.who, top) == ()
    [child] = await children(casa, top)
    await run(casa, child.id)
    await run(casa, top)
    assert await results(casa, top) == [("heard: one", False)]
    assert len(await of(casa, top, PermissionRequested)) == 1


async def test_a_tool_that_the_config_does_not_name_is_not_there(casa: Casa) -> None:
    config = gives(("helper", "one"))
    del config["tools"]
    await agent(casa, "lead", config)
    await agent(casa, "helper")
    top, _ = await begun(casa)
    [(text, is_error)] = await results(casa, top)
    assert is_error
    assert TASK in text


def test_an_agents_config_is_checked() -> None:
    for config in (
        {"delegationSeconds": 0},
        {"maxDelegations": -1},
        {"maxDelegationDepth": 1.5},
        {"delegatesTo": "helper"},
    ):
        with pytest.raises(ArbeError):
            tools.check(config)
