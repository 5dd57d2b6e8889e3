"""Following on a real Redis: nothing missing, nothing twice, one connection for all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from pydantic import SecretStr

from dispatch import ids
from dispatch.config import Settings
from dispatch.errors import Gone, NotFound, TooBusy, Unavailable
from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.streams import entries, keys
from dispatch.streams.batches import Batch
from dispatch.streams.connection import Connection
from dispatch.streams.feed import Feed
from dispatch.streams.topics import Ending
from tests.streams.followed import Followed, Writer, following, pump, read, wait_until
from tests.streams.shelf import live


@pytest.fixture
def stream_settings(stream_url: str) -> Settings:
    return Settings(stream_url=SecretStr(stream_url))


@pytest_asyncio.fixture
async def connection(stream_url: str) -> AsyncIterator[Connection]:
    opened = Connection(stream_url, timeout_seconds=5)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def writer(connection: Connection, settings: Settings) -> Writer:
    return Writer(connection, settings)


@pytest_asyncio.fixture
async def feed(connection: Connection, settings: Settings) -> AsyncIterator[Feed]:
    opened = Feed(live(connection), settings=settings)
    yield opened
    await opened.close()


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def kill_subscribers(connection: Connection) -> None:
    await connection.call("CLIENT", "KILL", "TYPE", "pubsub")


async def subscriber_count(connection: Connection) -> int:
    """Count those of our database; systems of other tests may run on the same server."""
    listed = await connection.call("CLIENT", "LIST", "TYPE", "pubsub")
    return sum(b" db=0 " in line for line in bytes(listed).splitlines())


async def test_a_follower_gets_the_past_and_then_what_comes(feed: Feed, writer: Writer) -> None:
    thread_id = await writer.create("0", "1")
    async with following(feed, thread_id) as got:
        await wait_until(lambda: got.texts == ["0", "1"])
        await writer.post(thread_id, "2")
        await wait_until(lambda: got.texts == ["0", "1", "2"])


async def test_a_follower_begins_after_its_cursor(feed: Feed, writer: Writer) -> None:
    thread_id = await writer.create("0")
    cursor = await writer.post(thread_id, "1")
    await writer.post(thread_id, "2")
    async with following(feed, thread_id, cursor) as got:
        await wait_until(lambda: got.texts == ["2"])


async def test_what_the_ring_holds_is_given_without_waiting(feed: Feed, writer: Writer) -> None:
    thread_id = await writer.create()
    loop = asyncio.get_running_loop()
    async with following(feed, thread_id) as got:
        cursor = await writer.post(thread_id, "0")
        await writer.post(thread_id, "1")
        await wait_until(lambda: got.texts == ["0", "1"])
        async with feed.follow(thread_id, cursor) as later:
            batch = await later.next(until=loop.time() - 1)
    assert isinstance(batch, Batch)
    assert len(batch.frames) == 1


async def test_frames_are_the_same_bytes_whether_read_or_heard(
    feed: Feed, writer: Writer
) -> None:
    thread_id = await writer.create()
    loop = asyncio.get_running_loop()
    async with feed.follow(thread_id, BEGINNING) as follower:
        await follower.next(until=loop.time() + 5)
        before = follower.cursor
        await writer.post(thread_id, 'a "quoted"\nline ✓ 12345678901234567890')
        heard = await follower.next(until=loop.time() + 5)
    from_stream = await feed.read(thread_id, before)
    assert isinstance(heard, Batch)
    assert list(heard.frames) == list(from_stream.frames)


async def test_a_long_past_comes_in_pages_and_joins_the_present(
    connection: Connection, writer: Writer, settings: Settings
) -> None:
    thread_id = await writer.create(*numbers(60))
    feed = Feed(
        live(connection), settings=settings.model_copy(update={"read_chunk_entries": 7})
    )
    async with following(feed, thread_id) as got:
        for number in range(60, 90):
            await writer.post(thread_id, str(number))
        await wait_until(lambda: len(got.texts) >= 90)
    await feed.close()
    assert got.texts == numbers(90)


async def test_entries_of_one_millisecond_stay_in_order_beyond_nine(
    feed: Feed, connection: Connection, writer: Writer
) -> None:
    thread_id = await writer.create()
    stream = keys.stream(thread_id)
    for number in range(15):
        await connection.call("XADD", stream, f"4102444800000-{number}", "p", '{"type":"x"}')
    ninth = EntryId("004102444800000_0000000009")
    batch = await feed.read(thread_id, ninth)
    assert [ids.redis_id_of(EntryId(_id(frame))) for frame in batch.frames] == [
        f"4102444800000-{number}" for number in range(10, 15)
    ]
    async with following(feed, thread_id, ninth) as got:
        await wait_until(lambda: len(got.entry_ids) == 5)
        for number in range(15, 25):
            frame = f'4102444800000-{number}  {{"type":"x"}}'
            await connection.call("XADD", stream, f"4102444800000-{number}", "p", "{}")
            await connection.call("PUBLISH", stream, frame)
        await wait_until(lambda: len(got.entry_ids) >= 15)
    assert got.entry_ids == [_public(number) for number in range(10, 25)]


async def test_nothing_is_missed_or_doubled_when_the_connection_breaks(
    feed: Feed, connection: Connection, writer: Writer
) -> None:
    thread_ids = [await writer.create() for _ in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        got = [
            await stack.enter_async_context(following(feed, thread_id))
            for thread_id in thread_ids
            for _ in range(3)
        ]
        for number in range(300):
            await asyncio.gather(*(writer.post(each, str(number)) for each in thread_ids))
            if number % 25 == 10:
                await kill_subscribers(connection)
            if number % 90 == 45:
                thread_id = thread_ids[number % 4]
                got.append(await stack.enter_async_context(following(feed, thread_id)))
        await wait_until(lambda: all(len(each.texts) >= 300 for each in got))
    assert all(each.texts == numbers(300) for each in got)


async def test_an_entry_appended_while_joining_comes_once(feed: Feed, writer: Writer) -> None:
    for _ in range(30):
        thread_id = await writer.create()

        async def post(thread_id: ThreadId = thread_id) -> None:
            for number in range(10):
                await writer.post(thread_id, str(number))

        posting = asyncio.create_task(post())
        async with following(feed, thread_id) as first, following(feed, thread_id) as second:
            await posting
            await wait_until(lambda a=first, b=second: min(len(a.texts), len(b.texts)) >= 10)
        assert first.texts == second.texts == numbers(10)


async def test_many_followers_share_one_connection(
    feed: Feed, connection: Connection, writer: Writer
) -> None:
    thread_ids = [await writer.create("0") for _ in range(20)]
    async with contextlib.AsyncExitStack() as stack:
        got = [
            await stack.enter_async_context(following(feed, thread_id))
            for thread_id in thread_ids * 10
        ]
        assert await subscriber_count(connection) == 1
        await asyncio.gather(*(writer.post(thread_id, "1") for thread_id in thread_ids))
        await wait_until(lambda: all(each.texts == ["0", "1"] for each in got))


async def test_followers_at_one_place_share_one_batch(feed: Feed, writer: Writer) -> None:
    thread_id = await writer.create("0")
    loop = asyncio.get_running_loop()
    async with (
        feed.follow(thread_id, BEGINNING) as one,
        feed.follow(thread_id, BEGINNING) as other,
    ):
        past = await asyncio.gather(
            *(each.next(until=loop.time() + 5) for each in (one, other))
        )
        await writer.post(thread_id, "1")
        live = await asyncio.gather(
            *(each.next(until=loop.time() + 5) for each in (one, other))
        )
    assert past[0] is past[1]
    assert live[0] is live[1]


async def test_a_deleted_thread_ends_its_followers(feed: Feed, writer: Writer) -> None:
    thread_id = await writer.create("0")
    async with following(feed, thread_id) as got:
        await wait_until(lambda: got.texts == ["0"])
        await writer.post(thread_id, "1")
        await writer.delete(thread_id)
        await wait_until(lambda: got.ending is Ending.GONE)
    assert got.texts == ["0", "1"]


async def test_a_delete_that_nobody_heard_ends_followers_after_the_reconnect(
    feed: Feed, connection: Connection, writer: Writer
) -> None:
    thread_id = await writer.create("0")
    async with following(feed, thread_id) as got:
        await wait_until(lambda: got.texts == ["0"])
        await connection.call("DEL", keys.stream(thread_id), keys.state(thread_id))
        await connection.call("HSET", keys.state(thread_id), "deleted", 1)
        await kill_subscribers(connection)
        await wait_until(lambda: got.ending is Ending.GONE)


async def test_a_deleted_or_unknown_thread_cannot_be_followed(
    feed: Feed, writer: Writer
) -> None:
    thread_id = await writer.create()
    await writer.delete(thread_id)
    with pytest.raises(Gone):
        async with feed.follow(thread_id, BEGINNING):
            pass
    with pytest.raises(NotFound):
        async with feed.follow(ThreadId(ids.uuid7()), BEGINNING):
            pass


async def test_a_follower_that_lags_is_cut_off_and_resumes_from_its_cursor(
    connection: Connection, writer: Writer, settings: Settings
) -> None:
    settings = settings.model_copy(update={"max_follower_lag_bytes": 100_000})
    feed = Feed(live(connection), settings=settings)
    thread_id = await writer.create()
    loop = asyncio.get_running_loop()
    text = "x" * 10_000
    async with (
        following(feed, thread_id) as quick,
        feed.follow(thread_id, await entries.tail(connection, thread_id)) as slow,
    ):
        assert await slow.next(until=0) is None
        for number in range(30):
            await writer.post(thread_id, f"{number}{text}")
        await wait_until(lambda: len(quick.texts) == 30)
        assert await slow.next(until=loop.time() + 5) is Ending.LAGGING
        async with following(feed, thread_id, slow.cursor) as again:
            await wait_until(lambda: len(again.texts) == 30)
    await feed.close()
    assert again.texts == quick.texts
    assert quick.ending is None


async def test_what_a_sink_refuses_is_returned_instead(feed: Feed, writer: Writer) -> None:
    thread_id = await writer.create()
    got = Followed()
    offered = 0

    def sink(batch: Batch) -> bool:
        nonlocal offered
        offered += 1
        if offered % 3 == 0:
            return False
        read(batch, got)
        return True

    async with feed.follow(thread_id, BEGINNING) as follower:
        follower.pour_into(sink)
        task = asyncio.create_task(pump(follower, got))
        for number in range(100):
            await writer.post(thread_id, str(number))
        await wait_until(lambda: len(got.texts) >= 100)
        task.cancel()
    assert got.texts == numbers(100)
    assert offered > 10


async def test_one_entry_larger_than_the_lag_cuts_nobody_off(
    connection: Connection, writer: Writer, settings: Settings
) -> None:
    settings = settings.model_copy(update={"max_follower_lag_bytes": 50_000})
    feed = Feed(live(connection), settings=settings)
    thread_id = await writer.create()
    async with following(feed, thread_id) as got:
        for number in range(4):
            await writer.post(thread_id, "x" * 120_000)
            await wait_until(lambda number=number: len(got.texts) == number + 1)
    await feed.close()


async def test_followers_are_limited_per_thread_and_per_process(
    connection: Connection, writer: Writer, settings: Settings
) -> None:
    settings = settings.model_copy(update={"max_followers": 3, "max_followers_per_thread": 2})
    feed = Feed(live(connection), settings=settings)
    one, other = await writer.create(), await writer.create()
    async with following(feed, one), following(feed, one):
        with pytest.raises(TooBusy, match="PER_THREAD"):
            async with feed.follow(one, BEGINNING):
                pass
        async with following(feed, other):
            with pytest.raises(TooBusy, match="ARBE_MAX_FOLLOWERS"):
                async with feed.follow(other, BEGINNING):
                    pass
    async with following(feed, one):
        pass
    await feed.close()


async def test_closing_ends_all_followers_and_lets_nobody_in(
    connection: Connection, writer: Writer, settings: Settings
) -> None:
    feed = Feed(live(connection), settings=settings)
    thread_id = await writer.create()
    async with following(feed, thread_id) as got:
        await feed.close()
        await wait_until(lambda: got.ending is Ending.CLOSING)
        with pytest.raises(TooBusy):
            async with feed.follow(thread_id, BEGINNING):
                pass
    await wait_until(lambda: not [task for task in asyncio.all_tasks() if _is_feeds(task)])


async def test_without_redis_following_is_refused_in_time(settings: Settings) -> None:
    settings = settings.model_copy(
        update={
            "stream_url": SecretStr("redis://127.0.0.1:1/0"),
            "stream_timeout_seconds": 0.3,
        }
    )
    connection = Connection("redis://127.0.0.1:1/0", timeout_seconds=0.3)
    feed = Feed(live(connection), settings=settings)
    with pytest.raises(Unavailable):
        async with feed.follow(ThreadId(ids.uuid7()), BEGINNING):
            pass
    await feed.close()
    await connection.close()


async def test_a_read_never_misses_what_stood_when_it_was_asked(
    feed: Feed, writer: Writer
) -> None:
    thread_id = await writer.create()
    start = await entries.tail(writer.connection, thread_id)

    async def post_and_read(number: int) -> None:
        entry_id = await writer.post(thread_id, str(number))
        batch = await feed.read(thread_id, start)
        assert entry_id.encode() in b"".join(batch.frames)

    await asyncio.gather(*(post_and_read(number) for number in range(200)))


async def test_a_read_stops_at_its_size_not_only_at_its_count(
    feed: Feed, writer: Writer
) -> None:
    thread_id = await writer.create(*["x" * 50_000] * 60)
    batch = await feed.read(thread_id, BEGINNING)
    assert not batch.up_to_date
    assert len(batch.json()) < 2_000_000


def _is_feeds(task: asyncio.Task[object]) -> bool:
    return "subscriber" in repr(task.get_coro()) or "Feed." in repr(task.get_coro())


def _id(frame: bytes) -> str:
    found: str = msgspec.json.decode(frame)["id"]
    return found


def _public(number: int) -> str:
    return f"004102444800000_{number:010d}"
