"""Scripts on a real Redis whose time is a key: `clock.advance` is the only thing that ages."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from redis import Redis

from dispatch.config import Settings
from dispatch.streams.connection import Connection
from tests.streams.scene import Scene
from tests.streams.simulated import CLOCK, Heard


@pytest.fixture
def redis(stream_url: str) -> Iterator["Redis"]:
    with Redis.from_url(stream_url) as client:
        yield client


@pytest_asyncio.fixture
async def scene(stream_url: str, redis: "Redis") -> AsyncIterator[Scene]:
    connection = Connection(stream_url, timeout_seconds=5)
    scene = Scene(connection, Heard(connection, clock=CLOCK), redis, Settings())
    yield scene
    await scene.close()
