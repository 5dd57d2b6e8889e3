"""Entries move out of Redis and back, and nobody who reads notices."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from dispatch.config import Settings
from dispatch.errors import Conflict, Invalid, NotFound
from dispatch.ids import ThreadId
from dispatch.models import policies
from dispatch.models.fold import fold
from dispatch.models.state import from_fields
from dispatch.operations import archive_thread, delete_thread, open_stream, restore_thread
from dispatch.operations.archive_thread import Archived
from dispatch.stores import objects
from dispatch.stores.postgres import engine, segments
from dispatch.streams import archives, entries, keys
from dispatch.streams.feed import Feed
from dispatch.streams.threads import Lane
from tests.operations import long_threads
from tests.streams.followed import following, wait_until
from tests.system.houses import Casa, found_casa

SMALL = {"archive_segment_entries": 50, "read_chunk_entries": 30}


@pytest.fixture(params=["postgres", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "" if request.param == "postgres" else f"file://{tmp_path}/archive"


@pytest_asyncio.fixture
async def casa(settings: Settings, place: str) -> AsyncIterator[Casa]:
    here = settings.model_copy(update={**SMALL, "archive_url": SecretStr(place)})
    async with found_casa(here) as made:
        yield made


def lane(casa: Casa) -> Lane:
    return Lane(casa.agent.id, policies.of({}, casa.record.settings))


async def long_thread(casa: Casa, turns: int = 3, events: int = 60) -> ThreadId:
    thread_id = await casa.dm()
    await open_stream.open_stream(casa.record, thread_id)
    for _ in range(turns):
        await long_threads.turn(casa.record, thread_id, lane(casa), events)
    return thread_id


async def archive(casa: Casa, thread_id: ThreadId, keep: int = 1) -> Archived:
    row = await casa.row(thread_id)
    return await archive_thread.archive_thread(casa.record, row, keep_entries=keep)


async def test_an_archived_thread_reads_as_before(casa: Casa) -> None:
    record, thread_id = casa.record, await long_thread(casa)
    before = await long_threads.live(record, thread_id)
    fields = await entries.state_fields(record.connection, thread_id)
    done = await archive(casa, thread_id, keep=7)
    assert done.entries == len(before) - 7
    assert done.segments > 2
    assert await long_threads.live(record, thread_id) == before[-7:]
    for size in (1, 13, 50, 1000):
        assert await long_threads.whole(record, thread_id, size) == before
    for limit in (1, 6, 7, 8, 60, 1000):
        assert await record.entries.latest(thread_id, limit=limit) == before[::-1][:limit]
    for index in (0, 1, 49, 50, 51, len(before) - 8, len(before) - 7, len(before) - 1):
        entry = before[index]
        assert await record.entries.find(thread_id, entry.id) == entry
        some = await record.entries.page(thread_id, after=entry.id, limit=60)
        assert some == before[index + 1 : index + 61]
        some = await record.entries.latest(thread_id, before=entry.id, limit=60)
        assert some == before[:index][::-1][:60]
    after = await entries.state_fields(record.connection, thread_id)
    assert after.pop("archived") == f"{done.segments},{before[-8].id}"
    assert after == fields, "the fold does not change"
    assert fold(await long_threads.whole(record, thread_id)) == from_fields(fields)
    assert (await casa.row(thread_id)).archived_at is not None
    assert await archive(casa, thread_id, keep=7) == Archived()


async def test_a_restored_thread_is_whole_on_its_stream_again(casa: Casa) -> None:
    record, thread_id = casa.record, await long_thread(casa)
    before = await long_threads.live(record, thread_id)
    raw = await record.connection.call("XRANGE", keys.stream(thread_id), "-", "+")
    await archive(casa, thread_id)
    posted = await long_threads.post(record, thread_id, "meanwhile")
    assert await restore_thread.restore_thread(record, casa.who, thread_id) == len(before) - 1
    now = await record.connection.call("XRANGE", keys.stream(thread_id), "-", "+")
    assert now[:-1] == raw, "byte for byte, with fields in their order"
    assert now[-1][0].decode() != raw[-1][0].decode()
    assert (await long_threads.live(record, thread_id))[-1].id == posted
    assert await long_threads.whole(record, thread_id) == await long_threads.live(
        record, thread_id
    )
    assert (await casa.row(thread_id)).archived_at is None
    assert await record.connection.call("TTL", keys.stream(thread_id)) == -1
    assert await restore_thread.restore_thread(record, casa.who, thread_id) == 0
    again = await archive(casa, thread_id)
    assert again.entries == len(before)
    assert (await long_threads.whole(record, thread_id))[:-1] == before


async def test_an_id_never_comes_again_after_a_restore(casa: Casa) -> None:
    record, thread_id = casa.record, await long_thread(casa, turns=1)
    await archive(casa, thread_id, keep=2)
    ahead = "4102444800000-5"
    stream = keys.stream(thread_id)
    await record.connection.call("XADD", stream, ahead, "p", "{}", "w", "r:0")
    await record.connection.call("XDEL", stream, ahead)
    await restore_thread.restore_thread(record, casa.who, thread_id)
    posted = await long_threads.post(record, thread_id, "later")
    assert posted == "004102444800000_0000000006"


async def test_what_open_work_needs_stays_live(casa: Casa) -> None:
    record, thread_id = casa.record, await long_thread(casa, turns=1)
    fence = await long_threads.begin(record, thread_id, lane(casa))
    await long_threads.say(record, fence, 1, 90)
    whole = await long_threads.whole(record, thread_id)
    await archive(casa, thread_id)
    live = await long_threads.live(record, thread_id)
    assert live[0].id == fence.dispatch_id.partition(".")[0]
    with pytest.raises(Conflict, match="under way"):
        await restore_thread.restore_thread(record, casa.who, thread_id)
    await long_threads.end(record, fence, 91)
    await archive(casa, thread_id)
    assert len(await long_threads.live(record, thread_id)) == 1
    assert (await long_threads.whole(record, thread_id))[:-1] == whole


async def test_many_at_once_archive_each_entry_once(casa: Casa) -> None:
    record, thread_id = casa.record, await long_thread(casa)
    before = await long_threads.live(record, thread_id)
    done = await asyncio.gather(
        *(archive(casa, thread_id) for _ in range(4)), return_exceptions=True
    )
    moved = [each.entries for each in done if isinstance(each, Archived)]
    assert all(isinstance(each, Archived | Conflict) for each in done)
    await archive(casa, thread_id)
    assert sum(moved) <= len(before) - 1
    assert await long_threads.whole(record, thread_id) == before
    assert await long_threads.live(record, thread_id) == before[-1:]


async def test_readers_see_each_entry_once_while_a_thread_is_moved_to_and_fro(
    casa: Casa,
) -> None:
    record, thread_id = casa.record, await long_thread(casa, turns=2)
    feed = Feed(record.entries, settings=record.settings)
    done = asyncio.Event()

    async def move() -> None:
        for _ in range(3):
            await archive(casa, thread_id, keep=3)
            await long_threads.turn(record, thread_id, lane(casa), 20)
            await restore_thread.restore_thread(record, casa.who, thread_id)
            await long_threads.post(record, thread_id, "one more")
        done.set()

    async def keep_reading() -> None:
        while not done.is_set():
            read = await long_threads.whole(record, thread_id, 7)
            seqs = [entry.seq for entry in read if entry.seq is not None]
            assert seqs == list(range(1, len(seqs) + 1))

    try:
        async with following(feed, thread_id) as early:
            await asyncio.gather(move(), keep_reading(), keep_reading())
            whole = await long_threads.whole(record, thread_id)
            await archive(casa, thread_id, keep=3)
            async with following(feed, thread_id) as late:
                for each in (early, late):
                    await wait_until(lambda got=each: got.entry_ids[-1:] == [whole[-1].id])
        assert late.entry_ids == [entry.id for entry in whole]
        assert early.entry_ids == sorted(set(early.entry_ids))
        durable = {entry.id for entry in whole if entry.seq is not None}
        assert durable <= set(early.entry_ids)
    finally:
        await feed.close()


async def test_a_full_thread_takes_entries_again_once_it_is_archived(
    settings: Settings,
) -> None:
    tiny = settings.model_copy(update={**SMALL, "max_stream_entries": 60})
    async with found_casa(tiny) as casa:
        thread_id = await casa.dm()
        await open_stream.open_stream(casa.record, thread_id)
        for number in range(59):
            await long_threads.post(casa.record, thread_id, str(number))
        with pytest.raises(Conflict, match="reached 60"):
            await long_threads.post(casa.record, thread_id, "one too many")
        await archive(casa, thread_id)
        await long_threads.post(casa.record, thread_id, "more")
        with pytest.raises(Conflict, match="more than 60"):
            await restore_thread.restore_thread(casa.record, casa.who, thread_id)


async def test_a_deleted_thread_leaves_neither_rows_nor_objects(casa: Casa, place: str) -> None:
    record, thread_id = casa.record, await long_thread(casa)
    await archive(casa, thread_id)
    folder = archive_thread.folder_of(thread_id)
    if place:
        assert await objects.list_names(place, folder)
    await delete_thread.delete_thread(record, casa.who, thread_id)
    async with engine.as_worker(record.projector) as connection:
        assert await segments.find_last(connection, thread_id=thread_id) is None
    if place:
        assert not await objects.list_names(place, folder)


async def test_what_was_archived_outlives_a_redis_that_forgot(casa: Casa) -> None:
    record, thread_id = casa.record, await long_thread(casa)
    before = await long_threads.live(record, thread_id)
    await archive(casa, thread_id, keep=5)
    usage = (await casa.state(thread_id)).usage
    await record.connection.call("DEL", keys.stream(thread_id), keys.state(thread_id))
    posted = await casa.post(thread_id, "after the loss")
    found = await long_threads.whole(record, thread_id)
    assert found[: len(before) - 5] == before[:-5]
    rollback = found[len(before) - 5]
    assert b"stream_rollback" in rollback.raw
    assert before[-6].id.encode() in rollback.raw
    durable = [entry.seq for entry in found if entry.seq is not None]
    assert durable == list(range(1, len(durable) + 1))
    assert posted.entry_id in {entry.id for entry in found}
    assert (await casa.state(thread_id)).usage == usage
    assert fold(found) == await casa.state(thread_id)
    assert (await archives.pointer(record.connection, thread_id)).last_id == before[-6].id


async def test_a_broken_segment_is_told_and_never_handed_out(
    settings: Settings, tmp_path: Path
) -> None:
    there = {**SMALL, "archive_url": SecretStr(f"file://{tmp_path}")}
    async with found_casa(settings.model_copy(update=there)) as casa:
        thread_id = await long_thread(casa, turns=1)
        await archive(casa, thread_id)
        for each in (tmp_path / archive_thread.folder_of(thread_id)).iterdir():
            each.write_bytes(b"nonsense")
        with pytest.raises(Invalid, match="checksum"):
            await casa.record.entries.page(thread_id, limit=1)


async def test_what_has_no_stream_cannot_be_restored(casa: Casa) -> None:
    with pytest.raises(NotFound):
        await restore_thread.restore_thread(casa.record, casa.who, await casa.dm())
