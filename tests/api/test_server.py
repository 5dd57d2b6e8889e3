"""The process `python -m dispatch.api`, as it is run."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from dispatch.client import Client
from dispatch.config import Settings
from dispatch.embedded import remembered
from tests.api.homes import Home, created, problem

START_SECONDS = 60
KILLS = 3
STOP_SECONDS = 4
"""Less than the grace for open answers: the follower was sent away, nobody waited."""


class Server:
    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def wait_ready(self) -> None:
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient() as client:
            while True:
                try:
                    await client.get(f"{self.url}/health")
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
                    continue
                return


@asynccontextmanager
async def serving(
    settings: Settings, port: int | None = None, **more: str
) -> AsyncIterator[Server]:
    port = port or remembered.free_port()
    names = more | {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "STREAM_URL": settings.stream_url.get_secret_value(),
        "ARBE_API_PORT": str(port),
        "ARBE_LOG_JSON": "true",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dispatch.api",
        env=os.environ | names,
        stderr=asyncio.subprocess.PIPE,
    )
    server = Server(process, f"http://127.0.0.1:{port}")
    try:
        await server.wait_ready()
        yield server
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_huge_body_hears_its_refusal_and_followers_do_not_hold_up_the_end(
    home: Home, settings: Settings
):
    thread = await home.thread()
    url = f"/v1/threads/{thread['id']}"

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    async with serving(settings) as server:
        headers = {"Authorization": f"Bearer {home.founded.secret}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
            refused = await client.post(f"{url}/entries", content=chunks())
            problem(refused, 413, "too_large")
            posted = created(await client.post(f"{url}/entries", json={"text": "canary"}))

            follow = client.stream("GET", f"{url}/stream?offset=-1&live=sse")
            async with follow as answer:
                lines = answer.aiter_lines()
                async for line in lines:
                    if posted["entry"]["id"] in line:
                        break
                started = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                async for _ in lines:
                    pass
        _, log = await server.process.communicate()
        assert time.monotonic() - started < STOP_SECONDS
    assert b"canary" not in log
    assert home.founded.secret.encode() not in log
    assert b"Traceback" not in log, log.decode()


async def test_a_killed_api_makes_everything_once_and_tells_every_caller(
    home: Home, settings: Settings
):
    port, chance = remembered.free_port(), random.Random(7)  # noqa: S311
    texts: dict[str, str] = {}
    told = asyncio.Event()

    async def call(client: Client, name: str) -> None:
        member = await client.members.create(name)
        made = await client.tokens.create(name, member_id=member["id"])
        texts[name] = made["token"]
        told.set()
        thread = await client.threads.create(name=name, message="hello")
        await client.threads.update(thread["thread"]["id"], {"tags": [name]})

    async def calls(client: Client, worker: int) -> None:
        for number in range(8):
            await call(client, f"n{worker}.{number}")

    async with (
        asyncio.timeout(150),
        Client(f"http://127.0.0.1:{port}", home.founded.secret, patience_seconds=60) as client,
    ):
        work = asyncio.gather(*(calls(client, worker) for worker in range(4)))
        for _ in range(KILLS):
            async with serving(settings, port, ARBE_IDEMPOTENCY_LEASE_SECONDS="1") as server:
                told.clear()
                await told.wait()
                await asyncio.wait([work], timeout=chance.uniform(0, 0.05))
                assert not work.done()
                server.process.kill()
                await server.process.communicate()
        async with serving(settings, port, ARBE_IDEMPOTENCY_LEASE_SECONDS="1") as server:
            await work
            server.process.kill()
            await server.process.communicate()
    members = (await home.http.get("/v1/members?limit=200")).json()["members"]
    threads = (await home.http.get("/v1/threads?limit=200")).json()["threads"]
    names = sorted(["Ada", *texts])
    assert sorted(each["name"] for each in members) == names
    assert sorted(each["name"] for each in threads) == sorted(["home", *texts])
    for thread in threads:
        types = [each["type"] for each in await home.payloads(thread["id"])]
        assert types.count("chat") == (thread["name"] != "home")
    for text in texts.values():
        home.http.headers["Authorization"] = f"Bearer {text}"
        assert (await home.http.get("/v1/houses/me")).status_code == 200
