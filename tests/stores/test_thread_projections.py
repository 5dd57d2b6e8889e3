"""Rows brought up to their streams: guarded, in batches, never back in time."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch import ids
from dispatch.ids import EntryId, ThreadId
from dispatch.models.threads import Projection, ThreadStatus
from dispatch.payloads.usage import UsageTotals
from dispatch.stores.postgres import engine, threads
from tests.stores.factories import Home
from tests.stores.test_threads import add


def entry(number: int) -> EntryId:
    return EntryId(f"{1_700_000_000_000 + number:015d}_0000000000")


def projection(
    thread_id: ThreadId,
    number: int,
    status: ThreadStatus,
    *,
    sub_job_status: ThreadStatus = "failed",
) -> Projection:
    return Projection(
        thread_id=thread_id,
        chat_status=status,
        sub_job_status=sub_job_status,
        usage=UsageTotals(input=number),
        stream_id=entry(number),
    )


async def test_a_projection_never_goes_back(home: Home, worker: AsyncEngine) -> None:
    async def project(number: int, status: ThreadStatus) -> bool:
        async with engine.as_worker(worker) as conn:
            told = projection(home.thread.id, number, status)
            return await threads.project(conn, projections=[told]) == 1

    assert await project(2, "running")
    assert not await project(1, "failed")
    assert not await project(2, "failed")
    assert await project(3, "open")
    async with home.as_member() as conn:
        row = await threads.get(conn, thread_id=home.thread.id)
    assert (row.status, row.stream_id, row.usage.input) == ("open", entry(3), 3)
    assert row.updated_at > row.created_at


async def test_a_batch_of_projections_writes_each_row_in_its_vocabulary(
    home: Home, worker: AsyncEngine
) -> None:
    child = await add(home, parent_thread_id=home.thread.id)
    gone = ThreadId(ids.uuid7())
    async with engine.as_worker(worker) as conn:
        changed = await threads.project(
            conn,
            projections=[
                projection(each, 1, "open", sub_job_status="completed")
                for each in (child.id, gone, home.thread.id)
            ],
        )
        assert await threads.project(conn, projections=[]) == 0
    assert changed == 2
    async with home.as_member() as conn:
        assert (await threads.get(conn, thread_id=child.id)).status == "completed"
        assert (await threads.get(conn, thread_id=home.thread.id)).status == "open"


async def test_overtaking_projectors_of_many_rows_leave_the_newest(
    home: Home, worker: AsyncEngine
) -> None:
    both = [home.thread.id, *[(await add(home)).id for _ in range(5)]]

    async def project(number: int) -> None:
        async with engine.as_worker(worker) as conn:
            order = both if number % 2 else both[::-1]
            told = [projection(each, number, "running") for each in order]
            await threads.project(conn, projections=told)

    await asyncio.gather(*(project(number) for number in (5, 9, 1, 7, 3, 8, 2, 6, 4)))
    async with home.as_member() as conn:
        for each in both:
            row = await threads.get(conn, thread_id=each)
            assert (row.stream_id, row.usage.input) == (entry(9), 9)


async def test_running_rows_are_paged_by_id_over_all_houses(
    home: Home, elsewhere: Home, worker: AsyncEngine
) -> None:
    mine = {(await add(each)).id for each in (home, elsewhere, home, elsewhere, home)}
    async with engine.as_worker(worker) as conn:
        told = [projection(each, 1, "running") for each in mine]
        await threads.project(conn, projections=told)
        seen: list[ThreadId] = []
        after = None
        while page := await threads.list_running(conn, after_id=after, limit=2):
            assert len(page) <= 2
            seen.extend(each.id for each in page)
            after = page[-1].id
        ours = await threads.list_running(conn, house_id=home.house.id, limit=10)
    assert {each.house_id for each in ours} == {home.house.id}
    assert len(ours) == 3
    assert seen == sorted(set(seen))
    assert mine <= set(seen)
