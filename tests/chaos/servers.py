"""The servers under the system: Redis with its file, Postgres, and a broker that forgets."""

import asyncio
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Literal

from dispatch.embedded.postgres import Postgres
from dispatch.embedded.redis import Redis
from tests.chaos import ports
from tests.chaos.events import FaultLog
from tests.chaos.slots import Slot
from tests.system import rabbitmq
from tests.system.rabbitmq import RabbitMQ

BrokerKind = Literal["redis", "rabbitmq"]
_FORGETFUL: Final = ("--appendonly", "no")
_PROBE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Server:
    """A slot, and where its server is reached when nothing stands between."""

    slot: Slot
    url: str
    port: int


async def make_redis(folder: Path, log: FaultLog) -> Server:
    """Make the record's Redis: everything acknowledged is in its file."""
    return await _redis("redis", folder, log)


async def make_broker(kind: BrokerKind, folder: Path, log: FaultLog) -> Server:
    """Make the broker: a Redis that forgets everything at its end, or a RabbitMQ node."""
    if kind == "redis":
        return await _redis("broker", folder, log, *_FORGETFUL)
    ports.remember(*(folder / "broker" / name for name in ("port", "epmd", "dist")))
    node = RabbitMQ(folder / "broker")
    slot = Node("broker", lambda: [str(rabbitmq.SERVER)], _node_answers, log, folder, node=node)
    return Server(slot, node.url, node.port)


async def make_postgres(folder: Path, log: FaultLog) -> Server:
    """Make the rows' Postgres."""
    server = Postgres(folder / "postgres")
    ports.remember(server.directory / "port")
    await server.prepare()

    def command() -> list[str]:
        server._forget_dead_server()
        return server.command()

    async def answers(_: Slot) -> bool:
        return await server._answers()

    slot = Slot("postgres", command, answers, log, folder)
    return Server(slot, server.url, int((server.directory / "port").read_text()))


async def _redis(name: str, folder: Path, log: FaultLog, *options: str) -> Server:
    server = Redis(folder / name)
    ports.remember(server.directory / "port")
    await server.prepare()

    async def answers(_: Slot) -> bool:
        return await server._answers()

    slot = Slot(name, lambda: [*server.command(), *options], answers, log, folder)
    return Server(slot, server.url, int((server.directory / "port").read_text()))


@dataclass(eq=False)
class Node(Slot):
    """A RabbitMQ node: several processes in one session, under Debian's account."""

    node: RabbitMQ = field(kw_only=True)

    def open(self) -> None:
        """Start the node's name server, then the node."""
        self.node._launch("epmd", "epmd", "-port", str(self.node.epmd_port))
        super().open()

    async def close(self) -> None:
        """End both and forget the data."""
        if self.pid is not None:
            self._signal(self.pid, signal.SIGKILL)
        await super().close()
        await asyncio.to_thread(self.node.end)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        os.killpg(pid, number)

    async def _launch(self, output: BinaryIO) -> asyncio.subprocess.Process:
        account = rabbitmq.ACCOUNT if os.geteuid() == 0 else None
        return await asyncio.create_subprocess_exec(
            *self.command(),
            env=self.node._environment(),
            cwd=self.node.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=rabbitmq._die_with_the_tests,
            user=account,
            group=account,
        )


async def _node_answers(slot: Slot) -> bool:
    assert isinstance(slot, Node)
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            return await asyncio.to_thread(slot.node._answers)
    except TimeoutError:
        return False


def why_not(kind: BrokerKind) -> str:
    """Tell why this broker cannot run here; empty if it can."""
    return rabbitmq.why_not() if kind == "rabbitmq" else ""


def find_faketime() -> Path | None:
    """Find the library that skews a process's clock, where Debian puts it."""
    if shutil.which("faketime") is None:
        return None
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None
