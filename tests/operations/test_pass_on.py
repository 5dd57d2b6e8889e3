"""Agents that ask agents: once each, not for ever, and though a worker dies in between."""

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from dispatch.ids import DispatchId, ThreadId, WorkerId
from dispatch.models.houses import Agent, TriggerMode
from dispatch.operations import pass_on
from dispatch.operations.pass_on import Verdict
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import Completed, HopLimit, Started
from dispatch.stores.postgres import agents, engine, threads
from dispatch.streams import keys, replies
from dispatch.streams.lanes import LaneRef
from dispatch.streams.replies import ReplyRef
from tests.system.houses import Casa
from workers import turn
from workers.agents import Hands, TurnRequest, registry
from workers.heartbeat import Heartbeats
from workers.outcomes import AgentOutcome, Failed
from workers.outcomes import Completed as Done
from workers.sweeps import reconcile

WORKER = WorkerId("test.3.c")


async def saying(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Say what the config tells, one message each; break or fail then if it tells so."""
    config = request.agent.config
    if request.checkpoint is not None:
        return Done()
    for number, text in enumerate(config["says"], 1):
        content = [{"type": "text", "text": text}]
        stop_reason = config.get("stops", "stop")
        message = {"role": "assistant", "content": content, "stopReason": stop_reason}
        await hands.emit(
            Assistant(message_id=request.message_id(number), turn_index=0, message=message),
            checkpoint={} if config.get("breaks") else None,
        )
    if config.get("breaks"):
        raise RuntimeError
    if config.get("fails"):
        return Failed(reason="agent_error", message="as told")
    return Done()


@pytest.fixture(autouse=True)
def runner() -> Iterator[None]:
    with mock.patch.object(registry, "find", return_value=saying):
        yield


async def agent(
    casa: Casa, handle: str, *says: str, mode: TriggerMode = "mention", **config: Any
) -> Agent:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        return await agents.insert(
            connection,
            house_id=casa.who.house_id,
            handle=handle,
            runner="saying",
            config={"says": says, **config},
            trigger_mode=mode,
        )


async def thread(casa: Casa, **fields: Any) -> ThreadId:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        new = threads.NewThread(house_id=casa.who.house_id, **fields)
        return (await threads.insert(connection, new=new)).id


async def work(casa: Casa, thread_id: ThreadId) -> None:
    """Run every lane until none has work."""
    record = casa.record
    heartbeats = Heartbeats(record.connection, worker_id=WORKER, settings=record.settings)
    while (state := await casa.state(thread_id)).has_work:
        for lane_id, lane in state.lanes.items():
            if lane.has_work:
                ref = LaneRef(thread_id, type(casa.agent.id)(lane_id))
                await turn.run_lane(record, heartbeats, ref)


async def of(casa: Casa, thread_id: ThreadId, kind: type) -> list[Any]:
    found = [each.payload for each in await casa.entries(thread_id)]
    return [each for each in found if isinstance(each, kind)]


async def notes(casa: Casa, thread_id: ThreadId) -> list[bytes]:
    found = await casa.record.connection.call("ZRANGE", keys.REPLIES, 0, -1)
    return [each for each in found if str(thread_id).encode() in each]


async def asked(casa: Casa, thread_id: ThreadId) -> list[str]:
    """Return who took a turn, in order."""
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        listed = await agents.list(connection, house_id=casa.who.house_id, limit=50)
    handles = {str(each.id): each.handle for each in listed}
    return [handles[each.agent_id] for each in await of(casa, thread_id, Started)]


async def test_an_answer_wakes_whom_it_names_with_its_own_words(casa: Casa) -> None:
    first = await agent(casa, "a", "thinking of @c", "@b please look")
    await agent(casa, "b", "done, thank you")
    await agent(casa, "c", "not me")
    thread_id = await thread(casa)
    posted = await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    assert await asked(casa, thread_id) == ["a", "b"]
    person, reply = await of(casa, thread_id, Chat)
    assert (person.hops, person.begun_by, person.repeats) == (0, None, None)
    assert (reply.text, reply.mentions) == ("@b please look", ("b",))
    assert (reply.by.kind, reply.by.id, reply.by.name) == ("agent", str(first.id), "a")
    assert (reply.hops, reply.begun_by) == (1, posted.entry_id)
    (repeated,) = [e for e in await casa.entries(thread_id) if e.id == reply.repeats]
    assert b"@b please look" in repeated.raw
    assert await notes(casa, thread_id) == []


async def test_those_who_always_listen_are_not_woken_by_agents(casa: Casa) -> None:
    await agent(casa, "a", "hello all, @a @ghost `@b` \\@b")
    await agent(casa, "b", "I hear", mode="always")
    await agent(casa, "quiet", "never", mode="never")
    thread_id = await thread(casa)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    assert await asked(casa, thread_id) == ["a"]
    assert len(await of(casa, thread_id, Chat)) == 1
    assert await notes(casa, thread_id) == []


async def test_never_is_not_woken_by_an_agent_that_names_it(casa: Casa) -> None:
    await agent(casa, "a", "@quiet and @b")
    await agent(casa, "b", "here")
    await agent(casa, "quiet", "never", mode="never")
    thread_id = await thread(casa)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    assert await asked(casa, thread_id) == ["a", "b"]


async def test_two_that_ask_each_other_stop_and_the_thread_is_told(casa: Casa) -> None:
    await agent(casa, "a", "your turn, @b")
    await agent(casa, "b", "no, yours, @a")
    thread_id = await thread(casa)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    most = casa.record.settings.max_agent_hops
    assert await asked(casa, thread_id) == ["a", "b", "a", "b", "a"][: most + 1]
    assert [each.hops for each in await of(casa, thread_id, Chat)] == list(range(most + 1))
    (told,) = await of(casa, thread_id, HopLimit)
    assert (told.reason, told.limit, told.mentions) == ("hops", most, ("b",))
    assert await notes(casa, thread_id) == []
    # A person's word begins anew.
    await casa.post(thread_id, "@b go on")
    await work(casa, thread_id)
    assert len(await asked(casa, thread_id)) == 2 * (most + 1)


@pytest.mark.parametrize(("where", "most"), [("thread", 1), ("agent", 0), ("both", 0)])
async def test_a_thread_or_an_agent_may_allow_less(casa: Casa, where: str, most: int) -> None:
    by_agent = {} if where == "thread" else {"maxAgentHops": 0}
    await agent(casa, "a", "@b", **by_agent)
    await agent(casa, "b", "@a")
    config = {} if where == "agent" else {"maxAgentHops": 1}
    thread_id = await thread(casa, config=config)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    assert len(await asked(casa, thread_id)) == most + 1
    (told,) = await of(casa, thread_id, HopLimit)
    assert told.limit == most


async def test_a_crowd_that_talks_at_once_is_bounded_in_all(casa: Casa) -> None:
    names = ("a", "b", "c", "d")
    for name in names:
        await agent(casa, name, " ".join(f"@{each}" for each in names))
    thread_id = await thread(casa)
    casa.record.settings = casa.record.settings.model_copy(
        update={"max_agent_replies": 5, "max_agent_hops": 50}
    )
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    replied = [each for each in await of(casa, thread_id, Chat) if each.hops]
    told = await of(casa, thread_id, HopLimit)
    assert len(replied) == 5
    assert {(each.reason, each.limit) for each in told} == {("replies", 5)}
    assert len(await of(casa, thread_id, Completed)) == 5 + len(told)


async def test_a_turn_that_fails_wakes_nobody(casa: Casa) -> None:
    await agent(casa, "a", "@b help", fails=True)
    await agent(casa, "b", "here")
    thread_id = await thread(casa)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    assert await asked(casa, thread_id) == ["a"]
    assert await notes(casa, thread_id) == []


async def test_a_sub_jobs_answer_is_its_parents(casa: Casa) -> None:
    await agent(casa, "a", "@b")
    await agent(casa, "b", "here")
    parent_id = await thread(casa)
    thread_id = await thread(casa, parent_thread_id=parent_id)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    assert await asked(casa, thread_id) == ["a"]
    assert (await casa.row(thread_id)).status == "completed"


async def test_an_answer_waits_for_a_busy_agent_whatever_the_thread_says(casa: Casa) -> None:
    await agent(casa, "a", "@b")
    await agent(casa, "b", "here")
    thread_id = await thread(casa, when_busy="interrupt")
    await casa.post(thread_id, "@a @b begin")
    await work(casa, thread_id)
    assert sorted(await asked(casa, thread_id)) == ["a", "b", "b"]
    assert "signal.dispatch.cancel_requested" not in await casa.types(thread_id)


async def ended(casa: Casa, thread_id: ThreadId) -> DispatchId:
    """Let a turn end whose worker dies before it passes the answer on."""
    with mock.patch.object(turn, "_pass_on", mock.AsyncMock()):
        posted = await casa.post(thread_id, "@a begin")
        await work(casa, thread_id)
    return posted.dispatches[0][0]


async def test_what_a_dead_worker_left_is_passed_on_by_the_sweep(casa: Casa) -> None:
    await agent(casa, "a", "@b")
    await agent(casa, "b", "here")
    thread_id = await thread(casa)
    dispatch_id = await ended(casa, thread_id)
    (member,) = await notes(casa, thread_id)
    assert dispatch_id.encode() in member
    await casa.record.connection.call("ZADD", keys.REPLIES, 1, member)
    await asyncio.gather(*(reconcile.sweep(casa.record) for _ in range(3)))
    assert len(await of(casa, thread_id, Chat)) == 2
    assert await notes(casa, thread_id) == []
    await work(casa, thread_id)
    assert await asked(casa, thread_id) == ["a", "b"]


async def test_passing_on_at_once_and_again_is_as_once(casa: Casa) -> None:
    await agent(casa, "a", "@b")
    await agent(casa, "b", "here", mode="mention")
    thread_id = await thread(casa)
    ref = ReplyRef(thread_id, await ended(casa, thread_id))
    told = await asyncio.gather(*(pass_on.pass_on(casa.record, ref) for _ in range(4)))
    assert set(told) == {"passed_on"}
    await work(casa, thread_id)
    assert await pass_on.pass_on(casa.record, ref) == "passed_on"
    assert len(await of(casa, thread_id, Chat)) == 2
    assert await asked(casa, thread_id) == ["a", "b"]


async def test_the_limit_is_told_once_and_holds_when_it_is_raised(casa: Casa) -> None:
    await agent(casa, "a", "@b", maxAgentHops=0)
    await agent(casa, "b", "here")
    thread_id = await thread(casa)
    ref = ReplyRef(thread_id, await ended(casa, thread_id))
    for _ in range(2):
        verdicts = await asyncio.gather(*(pass_on.pass_on(casa.record, ref) for _ in range(3)))
        assert set(verdicts) == {"limit"}
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        found = await agents.find_by_handle(connection, house_id=casa.who.house_id, handle="a")
        assert found is not None
        await agents.update(connection, agent_id=found.id, config={"says": ["@b"]})
    assert await pass_on.pass_on(casa.record, ref) == "refused"
    assert len(await of(casa, thread_id, HopLimit)) == 1
    assert len(await of(casa, thread_id, Chat)) == 1


async def verdict(casa: Casa, thread_id: ThreadId, dispatch_id: str) -> Verdict:
    ref = ReplyRef(thread_id, DispatchId(dispatch_id))
    await replies.note(casa.record.connection, ref, after_seconds=0)
    return await pass_on.pass_on(casa.record, ref)


async def test_a_note_of_a_turn_that_has_not_ended_waits_and_others_go(casa: Casa) -> None:
    await agent(casa, "a", "@b")
    thread_id = await thread(casa)
    posted = await casa.post(thread_id, "@a begin")
    assert await verdict(casa, thread_id, posted.dispatches[0][0]) == "open"
    assert len(await notes(casa, thread_id)) == 1
    assert await verdict(casa, thread_id, "000001700000000_0000000000.0") == "nobody"
    assert await verdict(casa, thread_id, f"{posted.entry_id}.7") == "nobody"
    nowhere = ThreadId(casa.who.house_id)
    assert await verdict(casa, nowhere, posted.dispatches[0][0]) == "nobody"
    assert await notes(casa, nowhere) == []


async def test_the_answer_of_an_earlier_attempt_counts(casa: Casa) -> None:
    """An attempt that goes on behind the last word says nothing itself."""
    await agent(casa, "a", "@b", breaks=True, retryBackoffSeconds=0.001)
    await agent(casa, "b", "here")
    thread_id = await thread(casa)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    assert await asked(casa, thread_id) == ["a", "a", "b"]
    assert len(await of(casa, thread_id, Chat)) == 2
    assert await notes(casa, thread_id) == []


async def test_a_model_call_that_failed_is_no_answer(casa: Casa) -> None:
    await agent(casa, "a", "@b", stops="error")
    await agent(casa, "b", "here")
    thread_id = await thread(casa)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    assert await asked(casa, thread_id) == ["a"]


async def test_a_long_answer_is_cut_to_what_an_entry_may_hold(casa: Casa) -> None:
    await agent(casa, "a", "@b " + "ü" * 200_000)
    await agent(casa, "b", "here")
    thread_id = await thread(casa)
    await casa.post(thread_id, "@a begin")
    await work(casa, thread_id)
    _, reply = await of(casa, thread_id, Chat)
    most = casa.record.settings.max_text_bytes
    assert most - 2 <= len(reply.text.encode()) <= most
