import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import SecretStr

from dispatch.api import app as factory
from dispatch.config import Settings
from tests.api.homes import Home, client_of, problem


@asynccontextmanager
async def client_with(
    settings: Settings, token: str, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    quick = {"stream_timeout_seconds": 0.5, "database_timeout_seconds": 1.0}
    app = factory.create_app(settings.model_copy(update=quick | changes))
    async with app.router.lifespan_context(app), client_of(app, token) as client:
        yield client


async def test_without_redis_changes_are_refused_whole_and_rows_are_read(
    home: Home, settings: Settings, dead_port: int
):
    thread = await home.thread(name="Old")
    before = (await home.http.get("/v1/threads")).json()
    dead = SecretStr(f"redis://127.0.0.1:{dead_port}/0")
    broker = SecretStr(settings.broker)
    async with client_with(
        settings, home.founded.secret, stream_url=dead, broker_url=broker
    ) as client:
        url = f"/v1/threads/{thread['id']}"
        *refused, read, health = await asyncio.gather(
            client.post(f"{url}/entries", json={"text": "hi"}),
            client.post("/v1/threads", json={"name": "New"}),
            client.patch(url, json={"name": "New"}),
            client.post("/v1/agents", json={"handle": "demo", "runner": "demo"}),
            client.get(url),
            client.get("/health"),
        )
    for answer in refused:
        assert problem(answer, 503, "unavailable")["server"] == "Redis"
        assert answer.headers["retry-after"]
    assert read.json()["name"] == "Old"
    assert (health.status_code, health.json()["redis"]) == (503, "down")
    assert health.json()["postgres"] == "up"
    assert (await home.http.get("/v1/threads")).json() == before
    assert (await home.http.get("/v1/agents")).json()["agents"] == []
    assert len(await home.payloads(thread["id"])) == 1


async def test_without_postgres_everything_is_refused_with_what_to_do(
    home: Home, settings: Settings, dead_port: int
):
    thread = await home.thread()
    dead = SecretStr(f"postgresql://arbe:arbe@127.0.0.1:{dead_port}/arbe")
    async with client_with(settings, home.founded.secret, database_url=dead) as client:
        for answer in [
            await client.get("/v1/threads"),
            await client.post(f"/v1/threads/{thread['id']}/entries", json={"text": "hi"}),
            await client.delete("/v1/agents/@demo", headers={"Idempotency-Key": "k"}),
        ]:
            assert problem(answer, 503, "unavailable")["server"] == "Postgres"
        health = await client.get("/health")
    assert (health.status_code, health.json()["postgres"]) == (503, "down")
    assert health.json()["redis"] == "up"
    assert len(await home.payloads(thread["id"])) == 1


async def test_without_broker_entries_are_accepted_and_health_says_so(
    home: Home, settings: Settings, dead_port: int
):
    await home.agent()
    thread = await home.thread()
    dead = SecretStr(f"redis://127.0.0.1:{dead_port}/0")
    async with client_with(settings, home.founded.secret, broker_url=dead) as client:
        answer = await client.post(
            f"/v1/threads/{thread['id']}/entries", json={"text": "@demo hi"}
        )
        health = await client.get("/health")
    assert answer.status_code == 201
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["broker"] == "down"


async def test_with_all_servers_health_is_ok(nobody: httpx.AsyncClient):
    answer = await nobody.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "redis": "up",
        "postgres": "up",
        "broker": "up",
    }
