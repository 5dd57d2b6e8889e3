"""What is measured: a private Postgres and Redis with real durability, and real processes.

Postgres has fsync on, Redis its AOF with always, as `arbe up` runs them. Each measurement
gets a database and an empty Redis of its own. All is ended, by pid, when the stage is left.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from pydantic import SecretStr

from dispatch.config import Settings
from dispatch.embedded import remembered
from dispatch.embedded.postgres import Postgres
from dispatch.embedded.redis import Redis
from dispatch.stores.postgres.migrations import runner
from tests.bench import machine
from tests.bench.wire import HttpSocket
from tests.system.processes import Processes

STOP_SECONDS = 20.0
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    quick: bool = False
    """A smoke test: everything runs, no figure means anything."""

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass
class Stage:
    """The two servers, and the processes of the measurement under way."""

    folder: Path
    database_url: str
    stream_url: str
    core: int
    other_core: int

    @contextlib.contextmanager
    def system(self, name: str) -> Iterator["System"]:
        """Hold an empty system for the length of one measurement."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(f"create database bench_{name}")
        database_url = urlunsplit(urlsplit(self.database_url)._replace(path=f"/bench_{name}"))
        runner.upgrade(database_url)
        with redis.Redis.from_url(self.stream_url) as client:
            client.flushall()
        settings = Settings(
            database_url=SecretStr(database_url),
            stream_url=SecretStr(self.stream_url),
            # On the same server, in a database of its own: hints are counted apart.
            broker_url=SecretStr(urlunsplit(urlsplit(self.stream_url)._replace(path="/1"))),
            log_level="WARNING",
        )
        folder = self.folder / name
        folder.mkdir()
        processes = Processes(settings, folder)
        try:
            yield System(self, settings, processes)
        finally:
            processes.end_all()

    def versions(self) -> dict[str, str]:
        """Ask the servers what they are."""
        with psycopg.connect(self.database_url) as connection:
            found = connection.execute("show server_version").fetchone()
        with redis.Redis.from_url(self.stream_url) as client:
            told = client.info("server")["redis_version"]
        return {"postgres": str(found[0]).split()[0] if found else "", "redis": str(told)}


@dataclass
class System:
    """One measurement's system."""

    stage: Stage
    settings: Settings
    processes: Processes

    def start_api(self, *, core: int | None = None, **environment: str) -> "Served":
        """Start the real API; it answers when this returns."""
        port = remembered.free_port()
        process = self.processes.start(
            "dispatch.api", ARBE_API_PORT=str(port), ARBE_LOG_LEVEL="WARNING", **environment
        )
        return self._served(process, port, core)

    def start_floor(self, module: str, *arguments: str, core: int | None = None) -> "Served":
        """Start a floor that serves HTTP on the port it is told first."""
        port = remembered.free_port()
        process = self.processes.start(f"tests.bench.{module}", str(port), *arguments)
        return self._served(process, port, core)

    def _served(
        self, process: subprocess.Popen[bytes], port: int, core: int | None
    ) -> "Served":
        machine.pin(process.pid, self.stage.core if core is None else core)
        deadline = time.monotonic() + READY_SECONDS
        while not HttpSocket.answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"not serving; see {self.processes.folder / 'log'}")
            time.sleep(0.05)
        return Served(process, port)


@dataclass(frozen=True)
class Served:
    """A process that serves HTTP."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def cpu_seconds(self) -> float:
        return machine.cpu_seconds(self.process.pid)


@contextlib.contextmanager
def open_stage(folder: Path) -> Iterator[Stage]:
    """Start the servers on our core; they are gone when this ends."""
    core, other_core = machine.cores()
    machine.pin(os.getpid(), core)
    postgres, stream = Postgres(folder / "postgres"), Redis(folder / "redis")
    with _running(postgres, folder / "postgres.log"), _running(stream, folder / "redis.log"):
        yield Stage(folder, postgres.url, stream.url, core=core, other_core=other_core)


@contextlib.contextmanager
def _running(server: Postgres | Redis, log: Path) -> Iterator[None]:
    asyncio.run(server.prepare())
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command(), stdout=output, stderr=output, start_new_session=True
        )
    try:
        asyncio.run(server.wait_ready())
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tell(text: str) -> None:
    """Say on stderr how far we are."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 — progress is for a person's terminal
