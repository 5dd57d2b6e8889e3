"""Archives over HTTP: a thread reads as before, and goes on in a new one if asked."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import SecretStr

from dispatch.api import app as factory
from dispatch.config import Settings
from dispatch.ids import AgentId, ThreadId
from dispatch.models import policies
from dispatch.operations import houses
from dispatch.streams.threads import Lane
from tests.api.homes import Home, client_of
from tests.api.loopback import serving
from tests.api.test_cli import Arbe
from tests.operations import long_threads


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[tuple[FastAPI, Home, str]]:
    app = factory.create_app(settings)
    async with app.router.lifespan_context(app), serving(app) as url:
        founded = await houses.create(app.state.record, name="Casa", owner_name="Ada")
        home = Home(founded, client_of(app, founded.secret))
        try:
            yield app, home, url
        finally:
            await home.http.aclose()


async def everything(home: Home, url: str, offset: str = "-1") -> bytes:
    """Read from a place to the end as any Durable Streams client does; return the messages."""
    found: list[bytes] = []
    async with httpx.AsyncClient(timeout=60, headers=home.http.headers) as client:
        while True:
            answer = await client.get(url, params={"offset": offset})
            assert answer.status_code == 200, answer.text
            if answer.content != b"[]":
                found.append(answer.content[1:-1])
            offset = answer.headers["stream-next-offset"]
            if answer.headers.get("stream-up-to-date") == "true":
                return b",".join(found)


async def conversation(app: FastAPI, home: Home, count: int) -> str:
    agent = await home.agent()
    thread = await home.thread(parent="@demo", key="user-1", tags=["a"], metadata={"x": 1})
    record = app.state.record
    lane = Lane(AgentId(UUID(agent["id"])), policies.of({}, record.settings))
    thread_id = ThreadId(UUID(thread["id"]))
    for _ in range(count // 500):
        await long_threads.turn(record, thread_id, lane, 400)
    for _ in range(count - len(await long_threads.live(record, thread_id))):
        await long_threads.post(record, thread_id, "one more")
    return thread["id"]


@pytest.mark.parametrize("where", ["postgres", "file"])
async def test_a_thread_of_5000_entries_reads_from_the_beginning_as_it_was(
    settings: Settings, tmp_path: Path, where: str
) -> None:
    url = "" if where == "postgres" else f"file://{tmp_path}/archive"
    async with served(settings.model_copy(update={"archive_url": SecretStr(url)})) as (
        app,
        home,
        base,
    ):
        thread_id = await conversation(app, home, 5000)
        stream = f"{base}/v1/threads/{thread_id}/stream"
        before = await everything(home, stream)
        head = (await home.http.head(f"/v1/threads/{thread_id}/stream")).headers
        answer = await home.http.post(f"/v1/threads/{thread_id}/archive")
        assert answer.status_code == 200, answer.text
        assert answer.json()["entries"] == 4999
        assert answer.json()["thread"]["archivedAt"]
        live = await long_threads.live(app.state.record, ThreadId(UUID(thread_id)))
        assert len(live) == 1
        assert await everything(home, stream) == before
        after = (await home.http.head(f"/v1/threads/{thread_id}/stream")).headers
        assert after["stream-next-offset"] == head["stream-next-offset"]
        answer = await home.http.post(f"/v1/threads/{thread_id}/restore")
        assert answer.json()["entries"] == 4999
        assert "archivedAt" not in answer.json()["thread"]
        assert await everything(home, stream) == before


@pytest_asyncio.fixture
async def small(settings: Settings) -> AsyncIterator[tuple[FastAPI, Home, str]]:
    few = {"archive_segment_entries": 40, "read_chunk_entries": 30, "max_page_size": 50}
    async with served(settings.model_copy(update=few)) as made:
        yield made


async def test_pages_and_tails_reach_into_the_archive(
    small: tuple[FastAPI, Home, str],
) -> None:
    app, home, _ = small
    thread_id = await conversation(app, home, 200)
    path = f"/v1/threads/{thread_id}"

    async def pages(direction: str, start: str | None) -> list[dict]:
        found, cursor = [], start
        while True:
            query = {"limit": "50"} | ({direction: cursor} if cursor else {})
            answer = (await home.http.get(f"{path}/entries", params=query)).json()
            found.append(answer["entries"])
            cursor = answer.get("nextCursor")
            if not cursor:
                return found

    forwards, backwards = await pages("after", None), await pages("before", "end")
    tail = (await home.http.get(f"{path}/stream", params={"tail": "50"})).content
    await home.http.post(f"{path}/archive")
    assert await pages("after", None) == forwards
    assert await pages("before", "end") == backwards
    assert (await home.http.get(f"{path}/stream", params={"tail": "50"})).content == tail
    diagnosis = await home.http.get(f"{path}/diagnose")
    assert diagnosis.status_code == 200


async def test_a_follower_sees_each_entry_once_while_its_thread_is_archived(
    small: tuple[FastAPI, Home, str],
) -> None:
    app, home, base = small
    record = app.state.record
    thread_id = await conversation(app, home, 150)
    stream = f"{base}/v1/threads/{thread_id}/stream"
    told = await everything(home, stream)
    slow = asyncio.create_task(everything(home, stream))

    async def move() -> None:
        for word in ("archive", "restore", "archive"):
            await long_threads.post(record, ThreadId(UUID(thread_id)), word)
            answer = await home.http.post(f"/v1/threads/{thread_id}/{word}")
            assert answer.status_code == 200, answer.text

    await asyncio.gather(move(), *(everything(home, stream) for _ in range(3)))
    assert (await slow).startswith(told[: len(told) // 2])
    assert (await everything(home, stream)).startswith(told)


async def test_a_rolled_over_thread_goes_on_in_a_new_one(
    small: tuple[FastAPI, Home, str],
) -> None:
    app, home, _ = small
    thread_id = await conversation(app, home, 60)
    path = f"/v1/threads/{thread_id}"
    assert (await home.post(thread_id, "known", key="k", whenBusy="write")).status_code == 201
    assert (await home.http.post(f"{path}/archive", json={"rollOver": True})).status_code == 409
    assert (await home.http.post(f"{path}/cancel", json={})).status_code in {200, 202}
    assert (
        await home.http.put(f"{path}/agents/@demo", json={"triggerMode": "mention"})
    ).status_code == 200
    answer = await home.http.post(
        f"{path}/archive", json={"rollOver": True}, headers={"Idempotency-Key": "r"}
    )
    assert answer.status_code == 200, answer.text
    old, new = answer.json()["thread"], answer.json()["nextThread"]
    assert new["previousThreadId"] == thread_id
    assert (new["key"], new["tags"], new["parent"]) == ("user-1", ["a"], old["parent"])
    assert new["metadata"] == {"x": 1, "previous_thread": thread_id}
    assert "key" not in old
    modes = (await home.http.get(f"/v1/threads/{new['id']}/agents")).json()["agents"]
    assert modes[0]["triggerMode"] == "mention"
    refused = await home.post(thread_id, "too late")
    assert refused.status_code == 409
    assert (refused.json()["reason"], refused.json()["nextThreadId"]) == (
        "rolled_over",
        new["id"],
    )
    assert (await home.post(thread_id, "known", key="k", whenBusy="write")).status_code == 200
    again = await home.http.post(f"{path}/archive", json={"rollOver": True})
    assert again.json()["nextThread"]["id"] == new["id"]
    assert (await home.post(new["id"], "here")).status_code == 201
    by_key = await home.http.post("/v1/threads", json={"parent": "@demo", "key": "user-1"})
    assert by_key.json()["thread"]["id"] == new["id"]
    await home.http.post(f"{path}/restore")
    assert (await home.post(thread_id, "again")).status_code == 201


async def test_what_is_said_about_archiving_must_make_sense(home: Home) -> None:
    nonsense = {"afterEntries": -1}, {"afterEntries": 5}, {"after": 1}, {"keepEntries": 0}
    for said in (7, *nonsense):
        answer = await home.http.post("/v1/threads", json={"config": {"archive": said}})
        assert answer.status_code == 422, said
        assert "docs/archive.md" in answer.json()["nextStep"]
    said = {"afterEntries": 5, "keepEntries": 2, "rollOver": True, "retentionSeconds": 60}
    assert (await home.thread(config={"archive": said}))["config"]["archive"] == said


async def test_what_is_due_in_a_house_is_archived_or_only_counted(
    small: tuple[FastAPI, Home, str],
) -> None:
    app, home, _ = small
    config = {"archive": {"afterEntries": 20, "keepEntries": 5}}
    thread = await home.thread(config=config)
    await home.thread()
    thread_id = ThreadId(UUID(thread["id"]))
    for number in range(30):
        await long_threads.post(app.state.record, thread_id, str(number))
    dry = (await home.http.post("/v1/threads/archive", json={"dryRun": True})).json()
    assert (dry["checked"], dry["due"], dry["archived"]) == (1, 1, 0)
    done = (await home.http.post("/v1/threads/archive")).json()
    assert (done["archived"], done["entries"]) == (1, 26)
    assert len(await long_threads.live(app.state.record, thread_id)) == 5
    assert (await home.http.post("/v1/threads/archive")).json()["due"] == 0


async def test_the_command_line_archives_rolls_over_and_restores(
    small: tuple[FastAPI, Home, str], tmp_path: Path
) -> None:
    app, home, base = small
    thread_id = await conversation(app, home, 60)
    url = {"ARBE_URL": base, "ARBE_TOKEN": home.founded.secret, "ARBE_LOG_LEVEL": "ERROR"}
    arbe = Arbe({**os.environ, **url, "PYTHONPATH": os.pathsep.join(sys.path)}, tmp_path)
    assert (await arbe("thread", "archive")).code == 64
    moved = (await arbe("thread", "archive", thread_id, "--json")).json
    assert moved["entries"] == 59
    rolled = (await arbe("thread", "archive", thread_id, "--roll-over", "--json")).json
    assert rolled["nextThread"]["previousThreadId"] == thread_id
    refused = await arbe("thread", "entries", "create", thread_id, "late")
    assert refused.code == 1
    assert rolled["nextThread"]["id"] in refused.err
    restored = (await arbe("thread", "restore", thread_id, "--json")).json
    assert restored["entries"] == 59
    due = (await arbe("thread", "archive", "--due", "--dry-run", "--json")).json
    assert due["dryRun"] is True
