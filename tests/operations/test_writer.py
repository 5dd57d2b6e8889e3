"""What a run writes: gathered, numbered, and nothing after it lost its lane."""

import asyncio

import pytest

from dispatch import clock, ids, payloads
from dispatch.config import Settings
from dispatch.errors import Fenced, Invalid, TooLarge
from dispatch.ids import ThreadId, WorkerId
from dispatch.operations import delete_thread, dispatches
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import Completed
from dispatch.streams import lanes, runs
from dispatch.streams.lanes import LaneRef
from dispatch.streams.runs import Claimed
from tests.system.houses import Casa
from workers.outcomes import Cancelled, LeaseLost
from workers.writer import RunWriter

WORKER = WorkerId("test.1.a")


async def claim(casa: Casa, thread_id: ThreadId) -> RunWriter:
    settings = casa.record.settings
    claimed = await runs.claim(
        casa.record.scripts,
        thread_id,
        casa.agent.id,
        run_id=ids.new_run_id(),
        worker_id=WORKER,
        lease_seconds=settings.lease_seconds,
    )
    assert isinstance(claimed, Claimed)
    return RunWriter(
        casa.record.scripts,
        casa.record.connection,
        fence=claimed.fence,
        started_id=claimed.started_id,
        worker_id=WORKER,
        settings=settings,
    )


async def running(casa: Casa) -> tuple[ThreadId, RunWriter]:
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    return thread_id, await claim(casa, thread_id)


def chunk(text: str) -> Chunk:
    return Chunk(kind="text", message_id="m", content_index=0, delta=text)


def assistant(text: str) -> Assistant:
    content = [{"type": "text", "text": text}]
    return Assistant(
        message_id="m", turn_index=0, message={"role": "assistant", "content": content}
    )


async def test_words_are_joined_and_give_way_to_their_message(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    for word in ("a ", "b ", "c ", "d"):
        await writer.emit(chunk(word))
    before = [e.payload for e in await casa.entries(thread_id)]
    shown = [p.delta for p in before if isinstance(p, Chunk)]
    assert shown == ["a "]  # the first at once, the others wait together
    await writer.emit(assistant("a b c d"))
    after = await casa.entries(thread_id)
    assert not [e for e in after if isinstance(e.payload, Chunk)]
    assert after[-1].writer == f"{writer.fence.run_id}:3"


async def test_waiting_words_are_written_without_another_event(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    await writer.emit(chunk("a "))
    await writer.emit(chunk("b"))
    deadline = asyncio.get_running_loop().time() + 5
    while True:
        found = [e.payload for e in await casa.entries(thread_id)]
        if [p.delta for p in found if isinstance(p, Chunk)] == ["a ", "b"]:
            break
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_a_cancelled_emit_is_still_counted(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    emitting = asyncio.create_task(writer.emit(assistant("one")))
    await asyncio.sleep(0)
    emitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await emitting
    done = Completed(dispatch_id=writer.fence.dispatch_id, run_id=writer.fence.run_id)
    await writer.finish(done)
    types = await casa.types(thread_id)
    assert types[-2:] == ["pi.assistant", "signal.dispatch.completed"]


async def test_a_reaped_run_writes_nothing_more(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    await writer.emit(assistant("seen"))
    ref = LaneRef(thread_id, casa.agent.id)
    verdict = await lanes.expire(
        casa.record.scripts,
        ref,
        settings=casa.record.settings.model_copy(update={"worker_dead_seconds": 0}),
        dead_run=writer.fence.run_id,
    )
    assert verdict == "failed"
    before = await casa.types(thread_id)
    with pytest.raises(Fenced):
        await writer.emit(assistant("late"))
    with pytest.raises(Fenced):
        await writer.renew()
    assert await casa.types(thread_id) == before
    assert writer.stopped.result() == LeaseLost()


async def test_a_run_that_was_reaped_while_it_was_paused_acts_no_more(
    casa: Casa, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id, writer = await running(casa)
    await writer.emit(assistant("I am about to act"))
    await writer.assert_held()
    ref = LaneRef(thread_id, casa.agent.id)
    settings = casa.record.settings.model_copy(update={"worker_dead_seconds": 0})
    dead_run = writer.fence.run_id
    await lanes.expire(casa.record.scripts, ref, settings=settings, dead_run=dead_run)
    monotonic = clock.monotonic_seconds
    monkeypatch.setattr(
        clock, "monotonic_seconds", lambda: monotonic() + settings.heartbeat_seconds
    )
    with pytest.raises(Fenced):
        await writer.assert_held()


async def test_a_deleted_thread_stops_its_run(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    await delete_thread.delete_thread(casa.record, casa.who, thread_id)
    with pytest.raises(Fenced, match="GONE"):
        await writer.emit(chunk("late"))
    assert writer.stopped.result() == LeaseLost()


async def test_a_cancel_reaches_the_run_with_its_next_word(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    asked = await dispatches.cancel(
        casa.record, casa.who, thread_id, writer.fence.dispatch_id, message="enough"
    )
    assert asked == "requested"
    assert not writer.stopped.done()
    await writer.renew()
    assert writer.stopped.result() == Cancelled()


async def test_an_agent_cannot_speak_for_the_record(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    fake = Completed(dispatch_id=writer.fence.dispatch_id)
    with pytest.raises(Invalid):
        await writer.emit(fake)  # type: ignore[arg-type]
    assert "signal.dispatch.completed" not in await casa.types(thread_id)


async def test_an_event_beyond_the_limit_is_refused_whole(
    casa: Casa, settings: Settings
) -> None:
    thread_id, writer = await running(casa)
    with pytest.raises(TooLarge):
        await writer.emit(assistant("x" * settings.max_payload_bytes))
    assert [payloads.type_of(e.payload) for e in await casa.entries(thread_id)][-1] == (
        "signal.dispatch.started"
    )
