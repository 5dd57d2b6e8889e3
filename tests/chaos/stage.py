"""The whole system: servers, processes, and between any two a way of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import SecretStr

from dispatch.config import Settings
from dispatch.errors import Unavailable
from dispatch.stores.postgres.migrations import runner
from dispatch.streams import keys
from dispatch.streams.connection import Connection
from tests.chaos import breaks, plan, ports, servers
from tests.chaos.events import FaultLog, now_ms
from tests.chaos.journal import JOURNAL
from tests.chaos.proxy import Proxy
from tests.chaos.servers import BrokerKind, Server
from tests.chaos.slots import Slot, wait_ready
from tests.system.processes import SHORT_CLOCKS

CLOCKS: Final = {
    **SHORT_CLOCKS,
    # Two cores and a dozen processes: a beat may well be a second late.
    "ARBE_WORKER_DEAD_SECONDS": "3",
    # Below the lease, as by default: who cannot ask notices while its lease lives.
    "ARBE_STREAM_TIMEOUT_SECONDS": "2",
    "ARBE_DATABASE_TIMEOUT_SECONDS": "2",
    # Who holds a key and dies keeps the next one waiting for so long.
    "ARBE_IDEMPOTENCY_LEASE_SECONDS": "5",
}
_CONCURRENCY: Final = 20
_START_SECONDS: Final = 60.0
_BEAT_WARM_SECONDS: Final = 3.0
"""A beat shows nothing; by then it has sent its first ticks."""
_ROOT_IS_FINE: Final = "ignore:You're running the worker with superuser privileges"
_VARIABLES: Final = {"postgres": "DATABASE_URL", "redis": "STREAM_URL", "broker": "BROKER_URL"}
_DISTRIBUTION: Final = {
    "METADATA": "Metadata-Version: 2.1\nName: chaos\nVersion: 0\n",
    "entry_points.txt": "[arbe.runners]\nchaos = tests.chaos.agent:run\n",
}
"""What makes our agent an installed package's in the eyes of a worker."""


@dataclass(eq=False)
class Stage:
    """One system in one folder."""

    folder: Path
    log: FaultLog
    servers: dict[str, Server]
    slots: dict[str, Slot] = field(default_factory=dict)
    ways: dict[tuple[str, str], Proxy] = field(default_factory=dict)
    """(process, server) → what stands between them."""
    urls: list[str] = field(default_factory=list)
    """Where the API processes are reached."""
    faketime: Path | None = None

    @property
    def settings(self) -> Settings:
        """Return the system's settings with nothing between us and the servers."""
        return Settings(
            database_url=SecretStr(self.servers["postgres"].url),
            stream_url=SecretStr(self.servers["redis"].url),
            broker_url=SecretStr(self.servers["broker"].url),
            **{name.removeprefix("ARBE_").lower(): value for name, value in CLOCKS.items()},
        )

    @property
    def journal(self) -> Path:
        """Return the file in which our agent's effects are counted."""
        return self.folder / "journal.jsonl"

    def skew(self, name: str, how: str) -> None:
        """Let a process live an hour ahead or behind from its next start on."""
        environment = self.slots[name].environment
        for variable in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
            environment.pop(variable, None)
        if how != "none":
            assert self.faketime is not None
            sign = "+" if how == "ahead" else "-"
            environment["LD_PRELOAD"] = str(self.faketime)
            environment["FAKETIME"] = f"{sign}{plan.SKEW_SECONDS}"
            environment["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"

    @property
    def back_ms(self) -> int:
        """Return when the last process came back, in Unix ms."""
        return max(slot.ready_at_ms for slot in self.slots.values())

    async def heal(self) -> list[str]:
        """Bring everything back; return who had to be forced.

        Raises: AssertionError, if even that did not help.
        """
        for way in self.ways.values():
            await way.set("pass")
        slots = tuple(self.slots.values())
        late = await wait_ready(slots, timeout_seconds=_START_SECONDS)
        for slot in late:
            # It tells its log where it hangs, ends, and is started again.
            slot.send(signal.SIGABRT)
        await _wait_all(self)
        return [slot.name for slot in late]


@asynccontextmanager
async def open_stage(
    folder: Path, log: FaultLog, *, broker: BrokerKind, broken: str = ""
) -> AsyncIterator[Stage]:
    """Start everything and wait until it serves; end it all when this ends."""
    stage = Stage(folder, log, await _make_servers(folder, log, broker))
    stage.faketime = servers.find_faketime()
    connection = Connection(stage.servers["redis"].url, timeout_seconds=2.0)
    try:
        _make_site(folder / "site", broken)
        for name, server in stage.servers.items():
            stage.slots[name] = server.slot
            server.slot.open()
        await _wait_all(stage)
        await asyncio.to_thread(runner.upgrade, stage.servers["postgres"].url)
        for name in plan.CLIENTS:
            stage.slots[name] = await _make_process(stage, name, connection)
            stage.slots[name].open()
        await _wait_all(stage)
        yield stage
    finally:
        await _close(stage)
        await connection.close()


async def _wait_all(stage: Stage) -> None:
    late = await wait_ready(tuple(stage.slots.values()), timeout_seconds=_START_SECONDS)
    assert not late, f"did not start: {[slot.name for slot in late]}, see {stage.folder}"


async def _make_servers(folder: Path, log: FaultLog, broker: BrokerKind) -> dict[str, Server]:
    return {
        "redis": await servers.make_redis(folder, log),
        "postgres": await servers.make_postgres(folder, log),
        "broker": await servers.make_broker(broker, folder, log),
    }


async def _close(stage: Stage) -> None:
    # Clients first: they have nothing to complain about then.
    for name in (*plan.CLIENTS, *plan.SERVERS):
        if name in stage.slots:
            await stage.slots[name].close()
    for way in stage.ways.values():
        await way.close()


def _make_site(site: Path, broken: str) -> None:
    about = site / "chaos-0.dist-info"
    about.mkdir(parents=True)
    for name, text in _DISTRIBUTION.items():
        (about / name).write_text(text)
    if broken:
        breaks.install(broken, site)


async def _make_process(stage: Stage, name: str, connection: Connection) -> Slot:
    environment = {
        **CLOCKS,
        "ARBE_WORKSPACE_ROOT": str(stage.folder / "workspaces"),
        "PYTHONPATH": os.pathsep.join([str(stage.folder / "site"), *sys.path]),
        "PYTHONFAULTHANDLER": "1",
        JOURNAL: str(stage.journal),
    }
    for server, variable in _VARIABLES.items():
        way = Proxy(stage.servers[server].port)
        await way.open()
        stage.ways[name, server] = way
        environment[variable] = _through(stage.servers[server].url, way.port)
    slot = Slot(name, list, _beat_is_warm, stage.log, stage.folder)
    slot.environment = environment
    if name in plan.APIS:
        _as_api(stage, slot)
    elif name in plan.WORKERS:
        _as_worker(slot, connection)
    else:
        command = _celery("beat", "-s", str(stage.folder / name), "--pidfile=")
        slot.command = lambda: command
    return slot


def _as_api(stage: Stage, slot: Slot) -> None:
    port = ports.choose()
    url = f"http://{ports.LOOPBACK}:{port}"
    stage.urls.append(url)
    slot.environment["ARBE_API_PORT"] = str(port)
    slot.command = lambda: [sys.executable, "-m", "dispatch.api"]

    async def answers(_: Slot) -> bool:
        # Whatever it says of its servers: they have slots of their own.
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
                await client.get(f"{url}/health")
        except httpx.HTTPError:
            return False
        return True

    slot.answers = answers


def _as_worker(slot: Slot, connection: Connection) -> None:
    command = _celery(
        *("worker", "-P", "threads", "-c", str(_CONCURRENCY), "-n", f"{slot.name}@%h"),
        *("--without-gossip", "--without-mingle"),
    )
    slot.command = lambda: command

    async def answers(asked: Slot) -> bool:
        try:
            workers = await connection.call("ZRANGE", keys.WORKERS, 0, -1)
        except Unavailable:
            return False
        return any(worker.split(b".")[-2] == b"%d" % (asked.pid or 0) for worker in workers)

    slot.answers = answers


def _celery(*arguments: str) -> list[str]:
    return [
        *(sys.executable, "-W", _ROOT_IS_FINE, "-m", "celery", "-q"),
        *("-A", "workers.celery_app", *arguments, "-l", "WARNING"),
    ]


async def _beat_is_warm(slot: Slot) -> bool:
    return now_ms() - slot.started_at_ms > _BEAT_WARM_SECONDS * 1000


def _through(url: str, port: int) -> str:
    """Return the URL with another port."""
    parts = urlsplit(url)
    host = f"{ports.LOOPBACK}:{port}"
    account, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{account}{at}{host}"))
