"""Rows of cancellations: who holds one, which threads it reaches, what is forgotten."""

import asyncio
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch import ids
from dispatch.errors import Invalid, NotFound
from dispatch.ids import CancellationId, DispatchId, ThreadId
from dispatch.models.cancellations import Below, Cancellation, NewCancellation
from dispatch.models.threads import NewThread
from dispatch.payloads.chat import Author
from dispatch.stores.postgres import cancellations, engine, threads
from dispatch.stores.postgres.tables import metadata
from tests.stores.factories import Home

FIRST, SECOND = (DispatchId(f"00000000000000{n}_0000000000.0") for n in (1, 2))


async def add(home: Home, parent: ThreadId | None = None, **fields: Any) -> ThreadId:
    new = NewThread(house_id=home.house.id, parent_thread_id=parent, **fields)
    async with home.as_member() as conn:
        return (await threads.insert(conn, new=new)).id


async def ask(home: Home, *, hold_seconds: float = 0, **fields: Any) -> Cancellation:
    async with home.as_owner() as conn:
        return (await insert(conn, home, hold_seconds=hold_seconds, **fields))[0]


async def insert(
    conn: Any, home: Home, *, hold_seconds: float = 0, **fields: Any
) -> tuple[Cancellation, bool]:
    new = NewCancellation(
        id=CancellationId(ids.uuid7()),
        house_id=home.house.id,
        by_kind="member",
        by_id=str(home.owner.id),
        by_name="Ada",
        before_ms=5,
        **fields,
    )
    return await cancellations.insert(conn, new=new, hold_seconds=hold_seconds)


async def reached(worker: AsyncEngine, asked: Cancellation, limit: int = 50) -> list[ThreadId]:
    async with engine.as_worker(worker) as conn:
        return list(await cancellations.list_reached(conn, cancellation=asked, limit=limit))


async def hold(worker: AsyncEngine, asked: Cancellation) -> Cancellation | None:
    async with engine.as_worker(worker) as conn:
        return await cancellations.hold(conn, cancellation_id=asked.id, hold_seconds=60)


async def test_a_thread_that_works_for_a_dispatch_needs_a_thread_as_parent(home: Home) -> None:
    child = await add(home, home.thread.id, parent_dispatch_id=FIRST)
    async with home.as_member() as conn:
        assert (await threads.get(conn, thread_id=child)).parent_dispatch_id == FIRST
    for fields in ({"parent_dispatch_id": FIRST}, {"parent_agent_id": home.agent.id}):
        with pytest.raises(Invalid):
            await add(home, **{"parent_dispatch_id": FIRST, **fields})
    with pytest.raises(Invalid):
        await add(home, home.thread.id, parent_dispatch_id="no dispatch")


async def test_what_a_cancellation_reaches(home: Home, worker: AsyncEngine) -> None:
    top = home.thread.id
    mine = await add(home, top, parent_dispatch_id=FIRST)
    other = await add(home, top, parent_dispatch_id=SECOND, tags=["blue"])
    aside = await add(home, top)
    below = await add(home, mine, parent_dispatch_id=SECOND)
    by_hand = await add(home, mine)
    under = await add(home, other)

    for fields, expected in (
        ({"thread_id": top, "dispatch_id": FIRST}, [mine, below]),
        ({"thread_id": top}, [top, mine, other, aside, below, by_hand, under]),
        ({"thread_id": top, "cascade": False}, [top]),
        ({"thread_id": mine}, [mine, below, by_hand]),
        ({"tag": "blue"}, [other, under]),
        ({"tag": "red"}, []),
        (
            {},
            sorted(
                [home.house.primary_thread_id, top, mine, other, aside, below, by_hand, under]
            ),
        ),
    ):
        assert await reached(worker, await ask(home, **fields)) == expected, fields


async def test_threads_in_reach_come_in_pages(home: Home, worker: AsyncEngine) -> None:
    asked = await ask(home, thread_id=home.thread.id)
    wanted = [home.thread.id, *[await add(home, home.thread.id) for _ in range(4)]]
    found: list[ThreadId] = []
    while page := await reached(worker, asked, limit=2):
        found += page
        asked = msgspec.structs.replace(asked, after_thread_id=page[-1])
    assert found == wanted


async def test_another_houses_threads_are_out_of_reach(
    home: Home, elsewhere: Home, worker: AsyncEngine
) -> None:
    await add(elsewhere, tags=["blue"])
    assert await reached(worker, await ask(home, tag="blue")) == []
    whole = await reached(worker, await ask(home))
    assert set(whole) == {home.house.primary_thread_id, home.thread.id}
    with pytest.raises(NotFound):
        await ask(home, thread_id=elsewhere.thread.id)
    foreign = await ask(elsewhere)
    async with home.as_owner() as conn:
        with pytest.raises(NotFound):
            await cancellations.get(conn, cancellation_id=foreign.id)


async def test_one_of_many_holds_it_and_its_rows_end_with_its_hold(
    home: Home, worker: AsyncEngine
) -> None:
    asked = await ask(home, thread_id=home.thread.id)
    held = [
        each for each in await asyncio.gather(*(hold(worker, asked) for _ in range(6))) if each
    ]
    assert len(held) == 1
    assert await hold(worker, asked) is None
    went_on = msgspec.structs.replace(
        held[0], after_thread_id=home.thread.id, cancelled_count=3
    )
    async with engine.as_worker(worker) as conn:
        free = await cancellations.update(conn, held=held[0], now=went_on, hold_seconds=0)
        assert free is not None
        assert (free.after_thread_id, free.cancelled_count) == (home.thread.id, 3)
    async with engine.as_worker(worker) as conn:
        stale = await cancellations.update(conn, held=held[0], now=held[0], hold_seconds=0)
        assert stale is None
    again = await hold(worker, asked)
    assert again is not None
    assert again.cancelled_count == 3


async def test_a_held_one_is_not_due_and_a_done_one_never(
    home: Home, worker: AsyncEngine
) -> None:
    waiting, held = await ask(home), await ask(home, hold_seconds=60)
    async with engine.as_worker(worker) as conn:
        due = await cancellations.list_due(conn, limit=10_000)
        assert waiting.id in due
        assert held.id not in due
        await cancellations.update(
            conn, held=waiting, now=waiting, hold_seconds=0, is_done=True
        )
    async with engine.as_worker(worker) as conn:
        assert waiting.id not in await cancellations.list_due(conn, limit=10_000)
    assert await hold(worker, waiting) is None


async def test_what_works_for_a_dispatch_is_owed_once_at_a_time(
    home: Home, worker: AsyncEngine
) -> None:
    about = {"thread_id": home.thread.id, "dispatch_id": FIRST, "is_last_walk": False}
    async with home.as_owner() as conn:
        first, is_new = await insert(conn, home, **about)
        again, is_new_again = await insert(conn, home, **about)
    assert (is_new, is_new_again) == (True, False)
    assert again == first
    async with engine.as_worker(worker) as conn:
        await cancellations.update(conn, held=first, now=first, hold_seconds=0, is_done=True)
    assert (await ask(home, **about)).id != first.id


async def test_what_works_for_several_dispatches_is_owed_where_anything_does(
    home: Home, worker: AsyncEngine
) -> None:
    await add(home, home.thread.id, parent_dispatch_id=FIRST)
    below = Below(
        house_id=home.house.id,
        by=Author("service", "billing"),
        message="enough",
        before_ms=5,
        is_last_walk=False,
    )
    asked = [(home.thread.id, FIRST), (home.thread.id, SECOND)]
    for _ in range(2):
        async with engine.as_worker(worker) as conn:
            await cancellations.insert_for(conn, asked=below, dispatches=asked)
    it = metadata.tables["cancellations"]
    async with home.as_owner() as conn:
        found = await conn.execute(
            sa.select(it.c.dispatch_id, it.c.message, it.c.is_last_walk, it.c.by_id).where(
                it.c.dispatch_id.is_not(None)
            )
        )
        assert found.all() == [(FIRST, "enough", False, "billing")]


async def test_a_thread_takes_its_cancellations_with_it(home: Home) -> None:
    thread_id = await add(home)
    asked = await ask(home, thread_id=thread_id)
    async with home.as_owner() as conn:
        await threads.delete_tree(conn, thread_id=thread_id)
        with pytest.raises(NotFound):
            await cancellations.get(conn, cancellation_id=asked.id)


async def test_only_what_is_long_done_is_forgotten(home: Home, worker: AsyncEngine) -> None:
    open_one, fresh, old = await ask(home), await ask(home), await ask(home)
    it = metadata.tables["cancellations"]
    async with engine.as_worker(worker) as conn:
        for row, age_seconds in ((fresh, 10), (old, 100)):
            age = sa.func.make_interval(0, 0, 0, 0, 0, 0, age_seconds)
            await conn.execute(
                sa.update(it).where(it.c.id == row.id).values(done_at=sa.func.now() - age)
            )
        await cancellations.delete_done(conn, older_than_seconds=60, limit=1000)
    async with home.as_owner() as conn:
        left = set(await conn.scalars(sa.select(it.c.id)))
    assert left == {open_one.id, fresh.id}


async def test_limits_hold_in_the_table_too(home: Home) -> None:
    for fields in (
        {"message": "x" * 2001},
        {"tag": ""},
        {"tag": "blue", "thread_id": home.thread.id},
        {"dispatch_id": FIRST},
        {"thread_id": home.thread.id, "dispatch_id": ids.new_run_id()},
    ):
        with pytest.raises(Invalid):
            await ask(home, **fields)
