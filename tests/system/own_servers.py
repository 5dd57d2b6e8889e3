"""A stream and a broker of one test alone: it may silence and kill them."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import SecretStr

from dispatch.config import Settings
from dispatch.embedded.redis import Redis
from tests.system.local_nodes import LocalRedis


@dataclass
class OwnServers:
    """Two private Redis servers."""

    stream: LocalRedis
    broker: LocalRedis

    def settings(self, system: Settings) -> Settings:
        """Return a system's settings over these servers."""
        return system.model_copy(
            update={
                "stream_url": SecretStr(self.stream.server.url),
                "broker_url": SecretStr(self.broker.server.url),
            }
        )


@contextlib.asynccontextmanager
async def own_servers(folder: Path) -> AsyncIterator[OwnServers]:
    """Run both for the length of a block."""
    with contextlib.ExitStack() as running:
        started = []
        for name in ("stream", "broker"):
            server = Redis(folder / name)
            await server.prepare()
            node = LocalRedis(server)
            running.callback(node.life.kill, "SIGKILL")
            assert node.ready()
            started.append(node)
        yield OwnServers(*started)


@contextlib.contextmanager
def silent(server: LocalRedis) -> Iterator[None]:
    """Let a server accept connections and answer nothing for the length of a block."""
    process = psutil.Process(server.life.pid)
    process.suspend()
    try:
        yield
    finally:
        process.resume()
