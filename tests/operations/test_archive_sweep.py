"""The archive's sweep: what is due, what nobody needs any more. Age is data here."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr
from redis import Redis

from dispatch import ids
from dispatch.config import Settings
from dispatch.errors import Gone
from dispatch.ids import BEGINNING, SegmentId, ThreadId
from dispatch.models.threads import NewThread
from dispatch.operations import archive_leftovers, archive_thread, open_stream, restore_thread
from dispatch.stores import objects
from dispatch.stores.postgres import engine, segments, threads
from dispatch.streams import archives, entries, keys
from tests.operations import long_threads
from tests.streams import forgetting
from tests.system.houses import Casa, found_casa
from workers.sweeps import archive as sweep
from workers.sweeps import expire as expire_sweep

SMALL = {"archive_segment_entries": 10, "sweep_batch": 3}
HOUR_AGO = 3_700_000


@pytest_asyncio.fixture
async def casa(settings: Settings, tmp_path: Path) -> AsyncIterator[Casa]:
    here = {**SMALL, "archive_url": SecretStr(f"file://{tmp_path}")}
    async with found_casa(settings.model_copy(update=here)) as made:
        yield made


@pytest_asyncio.fixture
async def admin(postgres_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def redis_of_streams(stream_url: str) -> Iterator["Redis"]:
    with Redis.from_url(stream_url) as client:
        yield client


async def thread(casa: Casa, count: int, **config: object) -> ThreadId:
    new = NewThread(house_id=casa.who.house_id, config={"archive": config} if config else {})
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        made = await threads.insert(connection, new=new)
    await open_stream.open_stream(casa.record, made.id)
    for number in range(count - 1):
        await long_threads.post(casa.record, made.id, str(number))
    return made.id


async def live(casa: Casa, thread_id: ThreadId) -> int:
    return len(await long_threads.live(casa.record, thread_id))


async def sweep_until(casa: Casa, rounds: int = 12) -> None:
    """Sweep until every page had its turn: other tests' threads are in the way."""
    for _ in range(rounds):
        await sweep.sweep(casa.record)
        if await archives.sweep_place(casa.record.connection) is None:
            return


async def test_a_thread_that_is_too_long_keeps_its_tail(casa: Casa) -> None:
    long = await thread(casa, 30, afterEntries=20, keepEntries=4)
    short = await thread(casa, 20, afterEntries=20, keepEntries=4)
    silent = await thread(casa, 30)
    await sweep_until(casa)
    assert [await live(casa, each) for each in (long, short, silent)] == [4, 20, 30]
    assert len(await long_threads.whole(casa.record, long)) == 30


async def test_a_thread_nobody_wrote_to_keeps_its_last_entry(
    casa: Casa, admin: psycopg.AsyncConnection
) -> None:
    made = [await thread(casa, 5, afterSeconds=0.001) for _ in range(4)]
    busy = await thread(casa, 5, afterSeconds=3600)
    await sweep_until(casa)
    assert [await live(casa, each) for each in (*made, busy)] == [1, 1, 1, 1, 5]


async def test_a_long_thread_goes_on_in_a_new_one(casa: Casa) -> None:
    long = await thread(casa, 30, afterEntries=20, keepEntries=4, rollOver=True)
    await sweep_until(casa)
    await sweep_until(casa)
    assert await live(casa, long) == 1
    async with engine.as_worker(casa.record.projector) as connection:
        access = await threads.access(connection, thread_id=long, defaults=casa.record.settings)
        assert access.next_thread_id is not None
        made = await threads.get(connection, thread_id=access.next_thread_id)
    assert made.previous_thread_id == long
    assert await live(casa, made.id) == 1


async def test_an_archive_whose_retention_is_over_expires(
    casa: Casa, admin: psycopg.AsyncConnection
) -> None:
    old, fresh, young = [
        await thread(casa, 30, afterEntries=20, keepEntries=4, retentionSeconds=3600)
        for _ in range(3)
    ]
    await sweep_until(casa)
    for each in (old, fresh):
        await admin.execute(
            "update threads set archived_at = now() - interval '2 hours',"
            " updated_at = now() - interval '2 hours' where id = %s",
            [each],
        )
    mark = f"{ids.milliseconds_of(BEGINNING):015d}_0000000001"
    await casa.record.connection.call("HSET", keys.state(old), "mark", mark)
    await sweep_until(casa)
    expire = [(await casa.row(each)).expires_at is not None for each in (old, fresh, young)]
    assert expire == [True, False, False]
    while await expire_sweep.sweep(casa.record):
        pass
    with pytest.raises(Gone):
        await casa.row(old)
    url = casa.record.settings.archive_url.get_secret_value()
    assert not await objects.list_names(url, folder_of(old))
    assert await objects.list_names(url, folder_of(fresh))


async def test_segments_of_a_restored_thread_are_kept_for_a_while(
    casa: Casa, admin: psycopg.AsyncConnection
) -> None:
    record, thread_id = casa.record, await thread(casa, 30)
    await archive_thread.archive_thread(record, await casa.row(thread_id))
    await restore_thread.restore_thread(record, casa.who, thread_id)
    url, folder = record.settings.archive_url.get_secret_value(), folder_of(thread_id)
    assert len(await objects.list_names(url, folder)) == 3
    await archive_leftovers.forget_dropped(record)
    assert len(await objects.list_names(url, folder)) == 3
    await age_dropped(admin)
    while await archive_leftovers.forget_dropped(record):
        pass
    assert not await objects.list_names(url, folder)
    async with engine.as_worker(record.projector) as connection:
        assert await segments.find_last(connection, thread_id=thread_id) is None
    assert await live(casa, thread_id) == 30


async def test_a_restore_that_redis_forgot_has_lost_nothing(
    casa: Casa, admin: psycopg.AsyncConnection, redis_of_streams: "Redis"
) -> None:
    record, thread_id = casa.record, await thread(casa, 30)
    whole = await long_threads.whole(record, thread_id)
    await archive_thread.archive_thread(record, await casa.row(thread_id))
    backup = forgetting.back_up(redis_of_streams, thread_id)
    await restore_thread.restore_thread(record, casa.who, thread_id)
    forgetting.load(redis_of_streams, thread_id, backup)
    await age_dropped(admin)
    await archive_leftovers.forget_dropped(record)
    assert await long_threads.whole(record, thread_id) == whole
    await restore_thread.restore_thread(record, casa.who, thread_id)
    assert await long_threads.live(record, thread_id) == whole


async def test_objects_that_no_segment_names_are_swept_once_they_are_old(casa: Casa) -> None:
    record, thread_id = casa.record, await thread(casa, 12)
    await archive_thread.archive_thread(record, await casa.row(thread_id))
    url, folder = record.settings.archive_url.get_secret_value(), folder_of(thread_id)
    (named, *_) = await objects.list_names(url, folder)
    young = SegmentId(ids.uuid7())
    old = SegmentId(uuid.UUID(int=young.int - (HOUR_AGO << 80)))
    for each in (old, young):
        await objects.put(url, f"{folder}/{each}", b"x")
    counts = await archive_leftovers.forget_orphans(record, thread_id.int & 255)
    assert counts == {"orphans": 1}
    left = set(await objects.list_names(url, folder))
    assert str(old) not in left
    assert {named, str(young)} <= left
    assert len(await long_threads.whole(record, thread_id)) == 12


async def test_segments_of_a_time_that_redis_lost_are_forgotten(
    casa: Casa, redis_of_streams: "Redis"
) -> None:
    """Redis comes back without the archive and without the last entries that went into it."""
    record, thread_id = casa.record, await thread(casa, 15)
    backup = forgetting.back_up(redis_of_streams, thread_id)
    kept = await long_threads.live(record, thread_id)
    for number in range(20):
        await long_threads.post(record, thread_id, f"lost {number}")
    await archive_thread.archive_thread(record, await casa.row(thread_id))
    forgetting.load(redis_of_streams, thread_id, backup)
    await record.revalidate(thread_id)
    found = await long_threads.whole(record, thread_id)
    assert found[:15] == kept
    assert b"stream_rollback" in found[15].raw
    for number in range(20):
        await long_threads.post(record, thread_id, f"later {number}")
    whole = await long_threads.whole(record, thread_id)
    await archive_thread.archive_thread(record, await casa.row(thread_id))
    assert await long_threads.whole(record, thread_id) == whole
    assert await live(casa, thread_id) == 1
    assert (await entries.tail(record.connection, thread_id)) == whole[-1].id


def folder_of(thread_id: ThreadId) -> str:
    return archive_thread.folder_of(thread_id)


async def age_dropped(admin: psycopg.AsyncConnection) -> None:
    await admin.execute(
        "update segments set dropped_at = dropped_at - interval '2 hours'"
        " where dropped_at is not null"
    )
