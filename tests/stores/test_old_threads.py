"""Threads whose time is over: keys that move, rights of the sweep, guarded removal."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch.config import Settings
from dispatch.ids import EntryId, ThreadId
from dispatch.models.cleanups import Cleanup
from dispatch.models.threads import NewThread, Projection, Thread
from dispatch.payloads.usage import UsageTotals
from dispatch.stores.postgres import deletions, engine, old_threads, tables, threads
from tests.stores.factories import Home

PAST = datetime.now(UTC) - timedelta(hours=1)
FUTURE = datetime.now(UTC) + timedelta(days=1)
EXPIRED = Cleanup(expired=True, pinned=True)
NOW_MS = int(datetime.now(UTC).timestamp() * 1000)


async def add(home: Home, **fields: object) -> Thread:
    async with home.as_member() as conn:
        return await threads.insert(conn, new=NewThread(house_id=home.house.id, **fields))


async def speak(worker: AsyncEngine, row: Thread, *, at_ms: int, status: str = "open") -> None:
    told = Projection(
        thread_id=row.id,
        chat_status=status,
        sub_job_status=status,
        usage=UsageTotals(),
        stream_id=EntryId(f"{at_ms:015d}_0000000000"),
    )
    async with engine.as_worker(worker) as conn:
        await threads.project(conn, projections=[told])


async def ids_of_old(home: Home, before_ms: int, **where: object) -> set[ThreadId]:
    async with home.as_member() as conn:
        found = await old_threads.list_old(
            conn,
            house_id=home.house.id,
            where=Cleanup(older_than_seconds=1, **where),
            before_ms=before_ms,
            after_id=None,
            limit=100,
        )
    return {each.id for each in found}


async def test_an_expired_keyed_thread_is_not_handed_out_and_its_key_moves_once(
    home: Home,
) -> None:
    old = await add(home, key="session-7", expires_at=PAST)

    async def call() -> tuple[ThreadId, bool]:
        async with home.as_member() as conn:
            new = NewThread(house_id=home.house.id, key="session-7", expires_at=FUTURE)
            keyed = await threads.insert_keyed(conn, new=new)
            return keyed.thread.id, keyed.created

    answers = await asyncio.gather(*(call() for _ in range(20)))
    (fresh,) = {thread_id for thread_id, _ in answers}
    assert fresh != old.id
    assert [created for _, created in answers].count(True) == 1
    async with home.as_member() as conn:
        assert (await threads.get(conn, thread_id=old.id)).key is None
        assert (await threads.get(conn, thread_id=fresh)).key == "session-7"


async def test_a_keyed_thread_with_an_end_to_come_is_handed_out(home: Home) -> None:
    old = await add(home, key="k", expires_at=FUTURE)
    async with home.as_member() as conn:
        keyed = await threads.insert_keyed(conn, new=NewThread(house_id=home.house.id, key="k"))
    assert (keyed.thread.id, keyed.created) == (old.id, False)


async def test_access_tells_of_an_end_by_postgres_clock(
    home: Home, store_settings: Settings
) -> None:
    for expires_at, is_expired in ((PAST, True), (FUTURE, False), (None, False)):
        row = await add(home, expires_at=expires_at)
        async with home.as_member() as conn:
            found = await threads.access(conn, thread_id=row.id, defaults=store_settings)
        assert found.is_expired is is_expired


@pytest.mark.parametrize(
    ("expires_at", "status", "may"),
    [
        (PAST, "open", True),
        (PAST, "running", False),
        (FUTURE, "open", False),
        (None, "open", False),
    ],
)
async def test_a_worker_may_delete_only_what_has_expired_and_rests(
    home: Home, worker: AsyncEngine, expires_at: datetime | None, status: str, may: bool
) -> None:
    row = await add(home, expires_at=expires_at)
    await speak(worker, row, at_ms=1, status=status)
    async with engine.as_worker(worker) as conn:
        gone = await conn.execute(
            sa.delete(tables.threads).where(tables.threads.c.id == row.id)
        )
    assert gone.rowcount == may
    async with home.as_member() as conn:
        noted = await deletions.find(conn, thread_id=row.id)
    assert (noted is not None) is may


async def test_what_hangs_below_an_expired_thread_goes_with_it(
    home: Home, worker: AsyncEngine
) -> None:
    row = await add(home, expires_at=PAST)
    child = await add(home, parent_thread_id=row.id)
    grandchild = await add(home, parent_thread_id=child.id)
    async with engine.as_worker(worker) as conn:
        below = await old_threads.list_below(conn, thread_id=row.id)
        assert {each.id for each in below} == {child.id, grandchild.id}
        assert await old_threads.delete(conn, thread_id=row.id, where=EXPIRED, before_ms=0)
    async with home.as_member() as conn:
        for gone in (row, child, grandchild):
            assert await threads.find(conn, thread_id=gone.id) is None
            assert await deletions.find(conn, thread_id=gone.id) is not None


async def test_an_end_put_off_while_the_sweep_waits_saves_the_thread(
    home: Home, worker: AsyncEngine
) -> None:
    row = await add(home, expires_at=PAST)

    async def sweep() -> bool:
        async with engine.as_worker(worker) as conn:
            return await old_threads.delete(conn, thread_id=row.id, where=EXPIRED, before_ms=0)

    async with home.as_member() as conn:
        await threads.update(conn, thread_id=row.id, expires_at=FUTURE)
        waiting = asyncio.create_task(sweep())
        await asyncio.sleep(0.05)
    assert await waiting is False


async def test_pages_of_expired_threads_name_each_once_and_no_other(
    home: Home, worker: AsyncEngine
) -> None:
    made = [await add(home, expires_at=PAST - timedelta(minutes=n % 2)) for n in range(5)]
    await add(home, expires_at=FUTURE)
    busy = await add(home, expires_at=PAST)
    await speak(worker, busy, at_ms=1, status="running")
    seen: list[ThreadId] = []
    after = None
    while True:
        async with engine.as_worker(worker) as conn:
            page = await old_threads.list_expired(conn, after=after, limit=2)
        seen += [each.id for each in page if each.house_id == home.house.id]
        if len(page) < 2:
            break
        assert page[-1].expires_at is not None
        after = page[-1].expires_at, page[-1].id
    assert sorted(seen) == sorted(each.id for each in made)


async def test_age_is_the_last_thing_said_else_the_birth(
    home: Home, worker: AsyncEngine
) -> None:
    silent = await add(home)
    spoken = await add(home)
    await speak(worker, spoken, at_ms=NOW_MS - 7_200_000)
    assert await ids_of_old(home, NOW_MS - 3_600_000) == {spoken.id}
    later = NOW_MS + 3_600_000
    assert await ids_of_old(home, later) == {spoken.id, silent.id, home.thread.id}


async def test_a_cleanup_passes_over_primary_pinned_and_running_threads(
    home: Home, elsewhere: Home, worker: AsyncEngine
) -> None:
    later = NOW_MS + 3_600_000
    pinned = await add(home, pinned_at=PAST)
    running = await add(home)
    await speak(worker, running, at_ms=1, status="running")
    assert await ids_of_old(home, later) == {home.thread.id}
    assert await ids_of_old(home, later, pinned=True) == {home.thread.id, pinned.id}
    assert await ids_of_old(home, later, running=True) == {home.thread.id, running.id}
    async with elsewhere.as_owner() as conn:
        assert not await old_threads.list_old(
            conn,
            house_id=home.house.id,
            where=Cleanup(older_than_seconds=1),
            before_ms=later,
            after_id=None,
            limit=10,
        )


async def test_a_cleanup_chooses_by_label_key_and_status(
    home: Home, worker: AsyncEngine
) -> None:
    later = NOW_MS + 3_600_000
    tagged = await add(home, tags=["nightly"])
    keyed = await add(home, key="user_7:billing")
    await add(home, key="userX7:billing")
    done = await add(home, parent_thread_id=tagged.id)
    await speak(worker, done, at_ms=1, status="completed")
    assert await ids_of_old(home, later, tag="nightly") == {tagged.id}
    assert await ids_of_old(home, later, key_prefix="user_7:") == {keyed.id}
    assert await ids_of_old(home, later, status="completed") == {done.id}
