"""The process `python -m dispatch.api`, as it is run."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from dispatch.config import Settings
from tests.api.homes import Home, created, problem

START_SECONDS = 20
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
                    continue
                return


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    names = {
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
