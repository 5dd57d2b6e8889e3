"""Cancels that reach many dispatches: what they end, what they leave, and deaths on the way."""

from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from dispatch.config import Settings
from dispatch.errors import Forbidden, Invalid, NotFound, Unavailable
from dispatch.ids import DispatchId, ThreadId
from dispatch.models.cancellations import Cancellation
from dispatch.models.houses import Caller
from dispatch.models.threads import NewThread
from dispatch.operations import cancel_many, delete_thread, dispatches, walk_cancellation
from dispatch.operations.record import open_record
from dispatch.payloads.signals import Cancelled, CancelRequested, Completed
from dispatch.stores.postgres import cancellations, engine, threads
from dispatch.stores.postgres.tables import metadata
from dispatch.streams import lanes
from dispatch.streams.lanes import LaneRef
from tests.operations.test_writer import claim
from tests.system.houses import Casa, found_casa
from workers.sweeps import cancellations as sweep

CANCELLED = "signal.dispatch.cancelled"
REQUESTED = "signal.dispatch.cancel_requested"


async def sub_job(
    casa: Casa, parent: ThreadId, works_for: DispatchId | None = None, **fields: Any
) -> ThreadId:
    new = NewThread(
        house_id=casa.who.house_id,
        parent_thread_id=parent,
        parent_dispatch_id=works_for,
        **fields,
    )
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        return (await threads.insert(connection, new=new)).id


async def queued(casa: Casa, thread_id: ThreadId) -> DispatchId:
    return (await casa.post(thread_id, "@demo go on")).dispatches[0][0]


async def running(casa: Casa, thread_id: ThreadId) -> tuple[DispatchId, Any]:
    dispatch_id = await queued(casa, thread_id)
    return dispatch_id, await claim(casa, thread_id)


async def last(casa: Casa, thread_id: ThreadId) -> str:
    return (await casa.types(thread_id))[-1]


async def owed(casa: Casa) -> int:
    it = metadata.tables["cancellations"]
    of_casa = sa.select(sa.func.count()).where(
        it.c.house_id == casa.who.house_id, it.c.done_at.is_(None)
    )
    async with engine.as_worker(casa.record.projector) as connection:
        return int(await connection.scalar(of_casa) or 0)


async def let_go(casa: Casa) -> None:
    """Do as if the hold of a dead process were over."""
    it = metadata.tables["cancellations"]
    async with engine.as_worker(casa.record.projector) as connection:
        await connection.execute(
            sa.update(it)
            .where(it.c.house_id == casa.who.house_id, it.c.done_at.is_(None))
            .values(due_at=sa.func.now())
        )


async def held(casa: Casa, asked: Cancellation) -> Cancellation:
    await let_go(casa)
    async with engine.as_worker(casa.record.projector) as connection:
        found = await cancellations.hold(connection, cancellation_id=asked.id, hold_seconds=15)
    assert found is not None
    return found


def pages_of(casa: Casa, settings: Settings, size: int) -> Any:
    """Open a record that works in small pages and never within the request."""
    small = {"sweep_batch": size, "cancel_request_seconds": 0.0}
    return open_record(settings.model_copy(update=small))


async def test_a_dispatch_takes_what_works_for_it_along_at_any_depth(casa: Casa) -> None:
    top = await casa.dm()
    dispatch_id, _ = await running(casa, top)
    child = await sub_job(casa, top, dispatch_id)
    child_dispatch, _ = await running(casa, child)
    grandchild = await sub_job(casa, child, child_dispatch)
    await queued(casa, grandchild)
    aside = await sub_job(casa, top)
    await queued(casa, aside)

    done = await cancel_many.cancel_dispatch(
        casa.record, casa.who, top, dispatch_id, message="wrong branch"
    )

    assert done.status == "requested"
    assert [await last(casa, each) for each in (top, child, grandchild)] == [
        REQUESTED,
        REQUESTED,
        CANCELLED,
    ]
    assert await last(casa, aside) == "signal.dispatch.queued"
    asked = (await casa.entries(child))[-1].payload
    assert isinstance(asked, CancelRequested)
    assert asked.reason == "cascade"
    told = (await casa.entries(grandchild))[-1].payload
    assert isinstance(told, Cancelled)
    assert told.by is not None
    assert (told.by.id, told.by.name, told.message) == (
        str(casa.who.member_id),
        "Ada",
        "wrong branch",
    )
    assert (await casa.row(grandchild)).status == "cancelled"
    assert done.cancellation is not None
    assert done.cancellation.done_at is None
    assert (done.cancellation.cancelled_count, done.cancellation.requested_count) == (1, 1)


async def test_a_dispatch_for_which_nothing_works_leaves_no_row(casa: Casa) -> None:
    top = await casa.dm()
    dispatch_id = await queued(casa, top)
    await sub_job(casa, top)
    done = await cancel_many.cancel_dispatch(casa.record, casa.who, top, dispatch_id)
    assert (done.status, done.cancellation, await owed(casa)) == ("cancelled", None, 0)


async def test_what_a_completed_dispatch_left_running_is_not_cancelled_with_it(
    casa: Casa,
) -> None:
    top = await casa.dm()
    dispatch_id, writer = await running(casa, top)
    child = await sub_job(casa, top, dispatch_id)
    await queued(casa, child)
    await writer.finish(Completed(dispatch_id=dispatch_id, run_id=writer.fence.run_id))
    done = await cancel_many.cancel_dispatch(casa.record, casa.who, top, dispatch_id)
    assert (done.status, done.cancellation) == ("completed", None)
    assert await last(casa, child) == "signal.dispatch.queued"


async def test_a_repeat_reaches_what_a_death_after_the_first_script_left(casa: Casa) -> None:
    top = await casa.dm()
    dispatch_id = await queued(casa, top)
    child = await sub_job(casa, top, dispatch_id)
    await queued(casa, child)
    # Here the process dies: the dispatch is ended, nobody was answered.
    await dispatches.cancel(casa.record, casa.who, top, dispatch_id)
    done = await cancel_many.cancel_dispatch(casa.record, casa.who, top, dispatch_id)
    assert done.status == "cancelled"
    assert done.cancellation is not None
    assert done.cancellation.done_at is not None
    assert await last(casa, child) == CANCELLED


async def test_work_born_while_its_dispatch_is_ending_is_caught_by_the_sweep(
    casa: Casa,
) -> None:
    top = await casa.dm()
    dispatch_id, writer = await running(casa, top)
    child = await sub_job(casa, top, dispatch_id)
    await cancel_many.cancel_dispatch(casa.record, casa.who, top, dispatch_id)
    assert await owed(casa) == 1
    # The agent has not heard of it yet, and delegates.
    await queued(casa, child)
    late = await sub_job(casa, top, dispatch_id)
    await queued(casa, late)
    await sweep.sweep(casa.record)
    assert [await last(casa, each) for each in (child, late)] == [CANCELLED, CANCELLED]
    assert await owed(casa) == 1
    await queued(casa, child)
    await writer.finish(Cancelled(dispatch_id=dispatch_id, reason="requested"))
    await sweep.sweep(casa.record)
    assert await last(casa, child) == CANCELLED
    assert await owed(casa) == 0
    # It is over: who posts now means it.
    await queued(casa, child)
    await sweep.sweep(casa.record)
    assert await last(casa, child) == "signal.dispatch.queued"


async def test_what_a_cascade_asked_late_is_followed_down_too(casa: Casa) -> None:
    top = await casa.dm()
    dispatch_id, _ = await running(casa, top)
    child = await sub_job(casa, top, dispatch_id)
    child_dispatch, child_writer = await running(casa, child)
    grandchild = await sub_job(casa, child, child_dispatch)
    done = await cancel_many.cancel_house(casa.record, casa.who)
    assert done.done_at is not None
    # Everything was asked, and both that run may still wake what works for them.
    assert await owed(casa) == 2
    await queued(casa, grandchild)
    await sweep.sweep(casa.record)
    assert await last(casa, grandchild) == CANCELLED
    await child_writer.finish(Cancelled(dispatch_id=child_dispatch, reason="requested"))
    await sweep.sweep(casa.record)
    assert await owed(casa) == 1


@pytest.mark.parametrize("cascade", [True, False])
async def test_a_thread_is_cancelled_with_all_below_it_or_alone(
    casa: Casa, cascade: bool
) -> None:
    top = await casa.dm()
    first, _ = await running(casa, top)
    await queued(casa, top)
    child = await sub_job(casa, await sub_job(casa, top))
    await queued(casa, child)
    done = await cancel_many.cancel_thread(casa.record, casa.who, top, cascade=cascade)
    types = await casa.types(top)
    assert types[-2:] == [CANCELLED, REQUESTED]  # the waiting one first: it must not begin
    asked = [e.payload for e in await casa.entries(top)][-1]
    assert isinstance(asked, CancelRequested)
    assert (asked.dispatch_id, asked.reason) == (first, "requested")
    assert (await last(casa, child) == CANCELLED) is cascade
    assert done.done_at is not None
    assert (done.thread_count, done.cancelled_count, done.requested_count) == (
        1 + cascade,
        1 + cascade,
        1,
    )


async def test_a_house_is_cancelled_by_its_owner_as_of_the_request(casa: Casa) -> None:
    tops = [await casa.dm() for _ in range(3)]
    for each in tops:
        await queued(casa, each)
    member = Caller(
        member_id=casa.who.member_id, house_id=casa.who.house_id, role="member", name="Bo"
    )
    with pytest.raises(Forbidden):
        await cancel_many.cancel_house(casa.record, member)
    done = await cancel_many.cancel_house(casa.record, casa.who, message="fire drill")
    assert (done.cancelled_count, done.thread_count) == (3, 3)
    assert {await last(casa, each) for each in tops} == {CANCELLED}
    assert {(await casa.row(each)).status for each in tops} == {"open"}


async def test_only_threads_with_the_tag_and_those_below_are_cancelled(casa: Casa) -> None:
    other = await casa.dm()
    tagged = await sub_job(casa, other, tags=["nightly"])
    below = await sub_job(casa, tagged)
    for each in (other, tagged, below):
        await queued(casa, each)
    done = await cancel_many.cancel_house(casa.record, casa.who, tag="nightly")
    assert done.cancelled_count == 2
    assert await last(casa, other) == "signal.dispatch.queued"
    with pytest.raises(Invalid):
        await cancel_many.cancel_house(casa.record, casa.who, tag=" ")


async def test_without_redis_nothing_is_asked_and_without_postgres_neither(
    casa: Casa, settings: Settings
) -> None:
    top = await casa.dm()
    for url in ("stream_url", "database_url"):
        nowhere = (
            "redis://127.0.0.1:1/0" if url == "stream_url" else "postgresql://a@127.0.0.1:1/b"
        )
        away = settings.model_copy(update={url: SecretStr(nowhere)})
        async with open_record(away) as record:
            with pytest.raises(Unavailable):
                await cancel_many.cancel_thread(record, casa.who, top)
    assert await owed(casa) == 0


async def test_a_deleted_thread_is_no_longer_owed_a_cancel(
    casa: Casa, settings: Settings
) -> None:
    top = await casa.dm()
    children = [await sub_job(casa, top) for _ in range(4)]
    for each in children:
        await queued(casa, each)
    async with pages_of(casa, settings, 2) as record:
        asked = await cancel_many.cancel_thread(record, casa.who, top)
        mine = await held(casa, asked)
        await delete_thread.delete_thread(record, casa.who, top)
        assert await walk_cancellation.step(record, mine) is None
        await sweep.sweep(record)
    with pytest.raises(NotFound):
        await cancel_many.get(casa.record, casa.who, asked.id)


async def test_a_thread_whose_stream_is_gone_stops_no_other(casa: Casa) -> None:
    lost, other = await casa.dm(), await casa.dm()
    for each in (lost, other):
        await queued(casa, each)
    await casa.record.connection.call("DEL", f"{{arbe-thread-{lost}}}:state")
    done = await cancel_many.cancel_house(casa.record, casa.who)
    assert done.done_at is not None
    assert await last(casa, other) == CANCELLED


async def test_another_house_can_neither_cancel_nor_see(casa: Casa, settings: Settings) -> None:
    top = await casa.dm()
    dispatch_id = await queued(casa, top)
    asked = await cancel_many.cancel_house(casa.record, casa.who, tag="none")
    async with found_casa(settings) as stranger:
        await cancel_many.cancel_house(stranger.record, stranger.who)
        for attempt in (
            cancel_many.cancel_thread(casa.record, stranger.who, top),
            cancel_many.cancel_dispatch(casa.record, stranger.who, top, dispatch_id),
            cancel_many.get(casa.record, stranger.who, asked.id),
        ):
            with pytest.raises(NotFound):
                await attempt
    assert await last(casa, top) == "signal.dispatch.queued"


async def test_a_cancel_outlives_the_death_of_its_run(casa: Casa) -> None:
    top = await casa.dm()
    dispatch_id, writer = await running(casa, top)
    await cancel_many.cancel_dispatch(casa.record, casa.who, top, dispatch_id)
    ref, run_id = LaneRef(top, casa.agent.id), writer.fence.run_id
    settings = casa.record.settings.model_copy(update={"worker_dead_seconds": 0})
    await lanes.expire(casa.record.scripts, ref, settings=settings, dead_run=run_id)
    types = await casa.types(top)
    assert types[-1] == CANCELLED
    assert "signal.dispatch.run_lost" not in types
    assert not (await casa.state(top)).has_work


async def test_a_cancelled_run_is_neither_given_back_nor_tried_again(casa: Casa) -> None:
    top = await casa.dm()
    dispatch_id, writer = await running(casa, top)
    await cancel_many.cancel_dispatch(casa.record, casa.who, top, dispatch_id)
    assert await writer.release() == "cancelling"
    assert await writer.retry("broke down") == "cancelling"
    assert (await casa.state(top)).lanes[str(casa.agent.id)].run is not None
