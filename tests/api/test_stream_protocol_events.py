"""Server-sent events: exact bytes, endings, slow readers, reconnects without gap or double."""

import asyncio
import contextlib
import itertools
import json
import re
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dispatch.api import direct
from dispatch.config import Settings
from dispatch.ids import BEGINNING, ThreadId
from dispatch.streams import entries
from tests.api.stream_server import Event, Served, parse, serving
from tests.streams.followed import wait_until

CURSOR = r'"streamCursor":"\d+"'


@pytest_asyncio.fixture(params=[direct.Protocol, HttpToolsProtocol], ids=["direct", "uvicorn"])
async def served(stream_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """Every promise holds with our writer and without it."""
    settings = Settings(
        stream_url=SecretStr(stream_url),
        sse_seconds=1.0,
        keep_alive_seconds=0.2,
        authorization_cache_seconds=0.3,
        read_chunk_entries=5,
        max_follower_lag_bytes=200_000,
    )
    async with serving(stream_url, settings, http=request.param) as running:
        yield running


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as made:
        yield made


class Tail:
    """A connection that gathers what it hears."""

    def __init__(self) -> None:
        self.text = ""
        self.ended = False
        self.status = 0
        self.headers = httpx.Headers()

    @property
    def events(self) -> list[Event]:
        return parse(self.text)

    @property
    def texts(self) -> list[str]:
        found: list[str] = []
        for event in self.events:
            if event.kind == "data":
                payloads = [each["payload"] for each in json.loads(event.data)]
                found += [each["text"] for each in payloads if each["type"] == "chat"]
        return found

    async def run(self, client: httpx.AsyncClient, url: str) -> None:
        async with client.stream("GET", url) as answer:
            self.status, self.headers = answer.status_code, answer.headers
            async for chunk in answer.aiter_text():
                self.text += chunk
        self.ended = True


@contextlib.asynccontextmanager
async def tailing(client: httpx.AsyncClient, url: str) -> AsyncIterator[Tail]:
    tail = Tail()
    task = asyncio.create_task(tail.run(client, url))
    try:
        yield tail
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def sse(served: Served, thread_id: ThreadId, offset: str = "-1") -> str:
    return f"{served.stream_of(thread_id)}?live=sse&offset={offset}"


async def test_the_frames_are_exact(served: Served, client: httpx.AsyncClient) -> None:
    thread_id = await served.writer.create("a")
    found = await entries.page(served.connection, thread_id, limit=9)
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: "event: control" in tail.text and tail.text.endswith("\n\n"))
    body = b",".join(entry.wire() for entry in found).decode()
    last = found[-1].id
    assert re.match(
        re.escape(f"event: data\ndata:[{body}]\nid: {last}\n\nevent: control\n")
        + rf'data:{{"streamNextOffset":"{last}",{CURSOR},"upToDate":true}}\n\n',
        tail.text,
    )
    assert tail.headers["content-type"] == "text/event-stream"
    assert tail.headers["cache-control"] == "no-cache"
    assert "content-length" not in tail.headers
    assert tail.headers["x-content-type-options"] == "nosniff"


async def test_every_data_event_is_followed_by_its_control(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create(*[str(number) for number in range(12)])
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: len(tail.texts) == 12)
        for number in range(12, 20):
            await served.writer.post(thread_id, str(number))
        await wait_until(lambda: len(tail.texts) == 20)
    events = tail.events
    for event, then in itertools.pairwise(events):
        if event.kind == "data":
            assert then.kind == "control"
            assert json.loads(then.data)["streamNextOffset"] == event.id
            assert event.id == json.loads(event.data)[-1]["id"]
    controls = [json.loads(each.data) for each in events if each.kind == "control"]
    assert ["upToDate" in each for each in controls[:3]] == [False, False, True]


async def test_at_the_tail_a_control_comes_at_once_and_keeps_coming(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    async with tailing(client, sse(served, thread_id, "now")) as tail:
        await wait_until(lambda: len(tail.events) >= 3)
    assert {event.kind for event in tail.events} == {"control"}
    tail_id = await entries.tail(served.connection, thread_id)
    assert all(json.loads(each.data)["streamNextOffset"] == tail_id for each in tail.events)


async def test_tail_starts_a_stream_with_the_last_entries(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a", "b", "c")
    async with tailing(client, f"{served.stream_of(thread_id)}?live=sse&tail=2") as tail:
        await wait_until(lambda: tail.texts == ["b", "c"])
        await served.writer.post(thread_id, "d")
        await wait_until(lambda: tail.texts == ["b", "c", "d"])


async def test_text_cannot_break_out_of_its_event(
    served: Served, client: httpx.AsyncClient
) -> None:
    evil = 'x\r\n\r\nevent: control\r\ndata:{"streamNextOffset":"0"}\r\r\n\n ✓'
    thread_id = await served.writer.create(evil)
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == [evil])
    assert tail.text.count("\nevent: control") == tail.text.count("event: control\ndata:{")


async def test_a_raw_line_end_in_stored_json_stays_inside_its_event(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create()
    payload = '{"type":"chat",\r\n\r\n"text":\n"a"}'
    await served.connection.call("XADD", f"arbe-thread-{thread_id}", "*", "p", payload)
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == ["a"])


async def test_an_answer_ends_in_time_and_the_next_one_goes_on(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    started = time.monotonic()
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.ended)
    assert time.monotonic() - started > 0.9
    assert "streamClosed" not in tail.text


async def test_reconnecting_followers_miss_and_double_nothing(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create()
    found: list[list[str]] = [[] for _ in range(6)]
    posted: list[str] = []
    reconnects = 0

    async def follow(into: list[str]) -> None:
        nonlocal reconnects
        offset: str = BEGINNING
        while not posted or into[-1:] != ["end"]:
            tail = Tail()
            await tail.run(client, sse(served, thread_id, offset))
            into += tail.texts
            controls = [each for each in tail.events if each.kind == "control"]
            offset = json.loads(controls[-1].data)["streamNextOffset"]
            reconnects += 1

    followers = [asyncio.create_task(follow(into)) for into in found]
    while reconnects < 12:
        posted.append(str(len(posted)))
        await served.writer.post(thread_id, posted[-1])
        if len(posted) % 200 == 100:
            await served.connection.call("CLIENT", "KILL", "TYPE", "pubsub")
    posted.append("end")
    await served.writer.post(thread_id, "end")
    await asyncio.wait_for(asyncio.gather(*followers), 20)
    assert all(each == posted for each in found)


async def test_a_deleted_thread_says_so_and_ends(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == ["a"])
        await served.writer.delete(thread_id)
        await wait_until(lambda: tail.ended, seconds=0.5)
    assert tail.events[-1].kind == "gone"


async def test_a_follower_whose_right_ended_is_closed(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == ["a"])
        served.allowed = False
        await wait_until(lambda: tail.ended, seconds=0.6)
        await served.writer.post(thread_id, "secret")
    assert "secret" not in tail.text


async def test_a_busy_stream_closes_a_follower_whose_right_ended_too(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == ["a"])
        served.allowed = False
        deadline = time.monotonic() + 0.6
        while not tail.ended:
            await served.writer.post(thread_id, "b")
            assert time.monotonic() < deadline


async def test_a_follower_whose_right_nobody_confirms_in_time_is_closed(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == ["a"])
        served.silent = True
        await wait_until(lambda: tail.ended, seconds=0.9)


async def test_followers_stay_while_postgres_is_away_and_go_when_it_says_no(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == ["a"])
        served.broken = True
        await served.writer.post(thread_id, "b")
        await wait_until(lambda: served.asked >= 3)
        await served.writer.post(thread_id, "c")
        await wait_until(lambda: tail.texts == ["a", "b", "c"])
        served.broken, served.allowed = False, False
        await wait_until(lambda: tail.ended, seconds=0.9)


async def test_closing_the_feed_ends_streams_with_a_cursor(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == ["a"])
        await served.feed.close()
        await wait_until(lambda: tail.ended, seconds=0.5)
    last = json.loads(tail.events[-1].data)
    assert last["streamNextOffset"] == await entries.tail(served.connection, thread_id)
    refused = await client.get(sse(served, thread_id))
    assert refused.status_code == 503


async def test_a_client_that_hangs_up_is_forgotten(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create("a")
    async with tailing(client, sse(served, thread_id)) as tail:
        await wait_until(lambda: tail.texts == ["a"])
        assert served.feed.follower_count == 1
    await wait_until(lambda: served.feed.follower_count == 0)


async def test_a_client_that_does_not_read_is_cut_off_and_can_resume(
    served: Served, client: httpx.AsyncClient
) -> None:
    thread_id = await served.writer.create()
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", served.port))
        path = sse(served, thread_id).removeprefix(served.url)
        lazy.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        await wait_until(lambda: served.feed.follower_count == 1)
        number, deadline = 0, time.monotonic() + 60
        while served.feed.follower_count:
            await served.writer.post(thread_id, f"{number} " + "x" * 100_000)
            number += 1
            # Enough to fill every buffer at once; then only until the clock has cut it off.
            await asyncio.sleep(0 if number < 100 else 0.05)
            assert time.monotonic() < deadline
        for more in range(number, number + 5):
            await served.writer.post(thread_id, f"{more} ")
        raw = await asyncio.to_thread(_drain, lazy)
    text = _unchunked(raw)
    whole = text[: text.rindex("\n\n") + 2]
    tail = Tail()
    tail.text = whole
    before = [each.split(" ", 1)[0] for each in tail.texts]
    controls = [each for each in tail.events if each.kind == "control"]
    offset = json.loads(controls[-1].data)["streamNextOffset"]
    again = Tail()
    while len(before) < number + 5:
        again = Tail()
        await again.run(client, sse(served, thread_id, offset))
        before += [each.split(" ", 1)[0] for each in again.texts]
        offset = json.loads(again.events[-1].data)["streamNextOffset"]
    assert before == [str(each) for each in range(number + 5)]


def _drain(sock: socket.socket) -> bytes:
    sock.settimeout(60)
    found = b""
    while chunk := sock.recv(1 << 20):
        found += chunk
    return found


def _unchunked(raw: bytes) -> str:
    _, _, rest = raw.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        if count == 0 or len(rest) < count + 2:
            break
        body, rest = body + rest[:count], rest[count + 2 :]
    return body.decode()
