"""Catch-up, long-poll and HEAD: the answers of the Durable Streams protocol."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from dispatch import ids
from dispatch.config import Settings
from dispatch.ids import BEGINNING, ENTRY_ID, ThreadId
from dispatch.streams import entries, keys
from tests.api.stream_server import Served, serving
from tests.streams.followed import wait_until


@pytest_asyncio.fixture(scope="module")
async def served(stream_url: str) -> AsyncIterator[Served]:
    settings = Settings(
        stream_url=SecretStr(stream_url),
        long_poll_seconds=0.4,
        read_chunk_entries=5,
        authorization_cache_seconds=0.2,
    )
    async with serving(stream_url, settings) as running:
        yield running


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as made:
        yield made


def texts(answer: httpx.Response) -> list[str]:
    return [
        each["payload"]["text"] for each in answer.json() if each["payload"]["type"] == "chat"
    ]


async def test_catch_up_returns_the_entries_verbatim(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a", "12345678901234567890")
    answer = await client.get(served.stream_of(thread_id))
    found = await entries.page(served.connection, thread_id, limit=10)
    assert answer.content == b"[" + b",".join(entry.wire() for entry in found) + b"]"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["stream-next-offset"] == found[-1].id
    assert answer.headers["stream-up-to-date"] == "true"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "cross-origin-resource-policy" in answer.headers


async def test_chunks_lead_through_the_whole_stream(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create(*[str(number) for number in range(12)])
    offset, found, tags = "-1", [], set()
    while True:
        answer = await client.get(served.stream_of(thread_id), params={"offset": offset})
        assert len(answer.json()) <= 5
        found += texts(answer)
        tags.add(answer.headers["etag"])
        assert answer.headers["stream-next-offset"] > offset.replace("-1", "")
        offset = answer.headers["stream-next-offset"]
        if "stream-up-to-date" in answer.headers:
            break
        assert answer.headers["cache-control"].startswith("private, max-age")
    assert found == [str(number) for number in range(12)]
    assert len(tags) == 3


async def test_an_offset_is_exclusive_and_the_tail_answers_an_empty_array(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    cursor = await served.writer.post(thread_id, "b")
    answer = await client.get(served.stream_of(thread_id), params={"offset": cursor})
    assert (answer.json(), answer.headers["stream-next-offset"]) == ([], cursor)
    assert "stream-up-to-date" in answer.headers


async def test_now_answers_the_tail_uncached(served: Served, client: httpx.AsyncClient) -> None:
    thread_id = await served.writer.create("a")
    tail = await entries.tail(served.connection, thread_id)
    answer = await client.get(served.stream_of(thread_id), params={"offset": "now"})
    assert (answer.json(), answer.headers["stream-next-offset"]) == ([], tail)
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


async def test_the_etag_holds_until_something_comes(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    url = served.stream_of(thread_id)
    first = await client.get(url)
    condition = {"if-none-match": first.headers["etag"]}
    again = await client.get(url, headers=condition)
    assert (again.status_code, again.content) == (304, b"")
    weak = await client.get(url, headers={"if-none-match": f'"x", W/{first.headers["etag"]}'})
    assert weak.status_code == 304
    await served.writer.post(thread_id, "b")
    changed = await client.get(url, headers=condition)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


async def test_the_etag_changes_when_a_chunk_is_deleted(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a", "b")
    url = served.stream_of(thread_id)
    first = await client.get(url)
    chunk = ids.redis_id_of(first.json()[1]["id"])
    await served.connection.call("XDEL", keys.stream(thread_id), chunk)
    again = await client.get(url, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 200


async def test_head_tells_the_tail(served: Served, client: httpx.AsyncClient) -> None:
    thread_id = await served.writer.create("a")
    answer = await client.head(served.stream_of(thread_id))
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["stream-next-offset"] == await entries.tail(
        served.connection, thread_id
    )
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "query",
    [
        "offset=",
        "offset=-2",
        "offset=1-0",
        "offset=000000000000001_000000000",
        "offset=000000000000001_0000000000%0A",
        "offset=%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0_0000000000",
        "offset=a,b",
        "offset=%00",
        "offset=NOW",
        "offset=-1&offset=-1",
        "live=sse",
        "live=long-poll",
        "live=websocket&offset=-1",
        "tail=x",
        "tail=-1",
        "tail=201",
        "tail=1&offset=-1",
    ],
)
async def test_a_malformed_request_is_refused(
    served: Served, client: httpx.AsyncClient, query: str
) -> None:
    thread_id = await served.writer.create("a")
    answer = await client.get(f"{served.stream_of(thread_id)}?{query}")
    assert answer.status_code == 400
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_unknown_parameters_are_ignored(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    answer = await client.get(f"{served.stream_of(thread_id)}?x=1&cursor=nonsense")
    assert texts(answer) == ["a"]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
async def test_writing_is_not_offered(
    served: Served, client: httpx.AsyncClient, method: str
) -> None:
    answer = await client.request(method, served.stream_of(ThreadId(ids.uuid7())))
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "query", ["", "offset=now", "offset=-1&live=long-poll", "offset=-1&live=sse", "tail=3"]
)
async def test_a_deleted_thread_is_gone_and_an_unknown_one_not_found(
    served: Served, client: httpx.AsyncClient, query: str
) -> None:
    thread_id = await served.writer.create("a")
    await served.writer.delete(thread_id)
    deleted = await client.get(f"{served.stream_of(thread_id)}?{query}")
    assert deleted.status_code == 410
    unknown = await client.get(f"{served.stream_of(ThreadId(ids.uuid7()))}?{query}")
    assert unknown.status_code == 404


async def test_head_of_a_deleted_thread_is_gone(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    await served.writer.delete(thread_id)
    assert (await client.head(served.stream_of(thread_id))).status_code == 410


async def test_tail_returns_the_last_entries(served: Served, client: httpx.AsyncClient) -> None:
    thread_id = await served.writer.create("a", "b", "c")
    url = served.stream_of(thread_id)
    assert texts(await client.get(f"{url}?tail=2")) == ["b", "c"]
    assert texts(await client.get(f"{url}?tail=100")) == ["a", "b", "c"]
    assert texts(await client.get(f"{url}?tail=0")) == []


async def test_last_event_id_wins_over_the_offset(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    cursor = await served.writer.post(thread_id, "b")
    await served.writer.post(thread_id, "c")
    url = f"{served.stream_of(thread_id)}?offset=-1"
    assert texts(await client.get(url, headers={"last-event-id": cursor})) == ["c"]
    bad = await client.get(url, headers={"last-event-id": "7"})
    assert bad.status_code == 400


async def test_a_long_poll_answers_at_once_with_what_is_there(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    answer = await client.get(f"{served.stream_of(thread_id)}?offset=-1&live=long-poll")
    assert texts(answer) == ["a"]
    assert answer.headers["stream-cursor"].isdigit()
    assert "etag" in answer.headers


async def test_a_long_poll_wakes_with_the_next_entry(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    cursor = await entries.tail(served.connection, thread_id)
    url = f"{served.stream_of(thread_id)}?live=long-poll&offset="
    for offset, text in ((cursor, "b"), ("now", "c")):
        polling = asyncio.create_task(client.get(url + offset))
        await wait_until(lambda: served.feed.follower_count == 1)
        await served.writer.post(thread_id, text)
        assert texts(await polling) == [text]


async def test_a_quiet_long_poll_ends_with_204_and_the_cursor_moves_on(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    url = f"{served.stream_of(thread_id)}?offset=now&live=long-poll"
    first = await client.get(url)
    assert (first.status_code, first.content) == (204, b"")
    assert ENTRY_ID.match(first.headers["stream-next-offset"])
    assert first.headers["stream-up-to-date"] == "true"
    second = await client.get(f"{url}&cursor={first.headers['stream-cursor']}")
    assert int(second.headers["stream-cursor"]) > int(first.headers["stream-cursor"])


async def test_a_long_poll_hears_of_the_delete(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    url = f"{served.stream_of(thread_id)}?offset=now&live=long-poll"
    polling = asyncio.create_task(client.get(url))
    await wait_until(lambda: served.feed.follower_count == 1)
    await served.writer.delete(thread_id)
    assert (await polling).status_code == 410


async def test_a_poller_learns_of_appends_in_order_without_gap(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create()

    async def post() -> None:
        for number in range(60):
            await served.writer.post(thread_id, str(number))

    posting = asyncio.create_task(post())
    found: list[str] = []
    offset: str = BEGINNING
    while len(found) < 60:
        answer = await client.get(
            served.stream_of(thread_id), params={"offset": offset, "live": "long-poll"}
        )
        offset = answer.headers["stream-next-offset"]
        if answer.status_code == 200:
            found += texts(answer)
    await posting
    assert found == [str(number) for number in range(60)]
