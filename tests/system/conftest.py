"""A whole system on its own database and Redis databases: real processes, short clocks."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from dispatch.client import Client
from dispatch.config import Settings
from dispatch.embedded.remembered import free_port
from dispatch.stores.postgres.migrations import runner
from tests.system.houses import Casa, found_casa
from tests.system.processes import SHORT_CLOCKS, Processes
from tests.system.rabbitmq import RabbitMQ, why_not


@pytest.fixture(scope="session")
def system_settings(postgres_url: str, stream_url: str) -> Settings:
    """Settings of the system whose processes each test starts and kills itself."""
    return new_system(postgres_url, stream_url, name="arbe_system", first_db=5)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A private RabbitMQ node; its tests carry the marker `rabbitmq`."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    node = RabbitMQ()
    try:
        node.start()
        yield node
    finally:
        node.end()


@pytest.fixture
def system(request: pytest.FixtureRequest, system_settings: Settings) -> Settings:
    """The system's settings over the broker a test is parametrised with; Redis by default."""
    if getattr(request, "param", "redis") == "redis":
        return system_settings
    node: RabbitMQ = request.getfixturevalue("rabbitmq")
    return system_settings.model_copy(update={"broker_url": SecretStr(node.url)})


@pytest.fixture
def processes(system: Settings, tmp_path: Path) -> Iterator[Processes]:
    """Processes of one test; what it leaves behind is ended."""
    started = Processes(system, tmp_path)
    try:
        yield started
    finally:
        started.end_all()


@pytest_asyncio.fixture
async def casa(system: Settings) -> AsyncIterator[Casa]:
    """A fresh house with an owner and a demo agent, and a record to look at it with."""
    async with found_casa(system) as made:
        yield made


@dataclass(frozen=True)
class RunningSystem:
    """API, worker and broker that run, and a house with an agent to talk to."""

    url: str
    token: str
    broker_url: str
    agent: str
    """Its `@handle`."""


@pytest_asyncio.fixture(scope="session")
async def running_system(
    postgres_url: str,
    stream_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningSystem]:
    """One API and one worker for all tests that only talk to a system.

    It shares nothing with `system_settings`: its worker would take what other tests lose.
    """
    settings = new_system(postgres_url, stream_url, name="arbe_running", first_db=8)
    started = Processes(settings, tmp_path_factory.mktemp("running"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    try:
        started.start("dispatch.api", ARBE_API_PORT=str(port))
        started.start_worker()
        async with found_casa(settings) as casa:
            async with Client(url, casa.token, patience_seconds=60) as client:
                assert (await client.health())["status"] == "ok"
            yield RunningSystem(url, casa.token, settings.broker, "@demo")
    finally:
        started.end_all()


def new_system(postgres_url: str, stream_url: str, *, name: str, first_db: int) -> Settings:
    """Make an empty database; return settings with it and with two Redis databases."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name}")
    database_url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    runner.upgrade(database_url)
    with pytest.MonkeyPatch.context() as patch:
        # The clocks go through the environment, as for users; no other test may see them.
        for clock, value in SHORT_CLOCKS.items():
            patch.setenv(clock, value)
        return Settings(
            database_url=SecretStr(database_url),
            stream_url=SecretStr(with_db(stream_url, first_db)),
            broker_url=SecretStr(with_db(stream_url, first_db + 1)),
        )


def with_db(url: str, number: int) -> str:
    """Return a Redis URL that names another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))
