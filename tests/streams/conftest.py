"""Scripts on a real Redis whose time is a key: `clock.advance` is the only thing that ages."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from dispatch.config import Settings
from dispatch.streams.connection import Connection
from tests.streams.scene import CLOCK, Heard, Scene


@pytest.fixture(scope="session")
def stream_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a private Redis; `ARBE_TEST_REDIS` names another server's binary."""
    folder = tmp_path_factory.mktemp("redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [os.environ.get("ARBE_TEST_REDIS", "redis-server"), "--port", str(port)]
    command += ["--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        _wait_ready(port)
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


def _wait_ready(port: int) -> None:
    deadline = time.monotonic() + 10
    with Redis(port=port) as redis:
        while time.monotonic() < deadline:
            with contextlib.suppress(RedisConnectionError):
                redis.ping()
                return
    raise TimeoutError


@pytest.fixture
def redis(stream_url: str) -> Iterator["Redis"]:
    with Redis.from_url(stream_url) as client:
        yield client


@pytest.fixture
def stream_settings(stream_url: str) -> Settings:
    return Settings(stream_url=SecretStr(stream_url))


@pytest_asyncio.fixture
async def scene(
    stream_url: str, redis: "Redis", stream_settings: Settings
) -> AsyncIterator[Scene]:
    connection = Connection(stream_url, timeout_seconds=5)
    scene = Scene(connection, Heard(connection, clock=CLOCK), redis, stream_settings)
    yield scene
    await scene.close()
