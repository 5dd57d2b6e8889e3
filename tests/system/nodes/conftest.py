"""The plugin's fixtures over processes: brokers and workers that tests kill and restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr
from pytest_celery import CeleryTestBroker, RabbitMQTestBroker, RedisTestBroker

from dispatch.config import Settings
from dispatch.embedded.redis import Redis
from tests.system.local_nodes import LocalRabbitMQ, LocalRedis, LocalWorker
from tests.system.processes import Processes
from tests.system.rabbitmq import RabbitMQ


@pytest_asyncio.fixture(scope="session")
async def prepared_redis(tmp_path_factory: pytest.TempPathFactory) -> Redis:
    """A Redis that is no one's stream, not started yet."""
    server = Redis(tmp_path_factory.mktemp("broker"))
    await server.prepare()
    return server


@pytest.fixture
def default_redis_broker(prepared_redis: Redis) -> Iterator[LocalRedis]:
    """A Redis broker of this test alone."""
    container = LocalRedis(prepared_redis)
    assert container.ready()
    container.client.flushall()
    yield container
    container.life.kill("SIGKILL")


@pytest.fixture
def default_rabbitmq_broker(rabbitmq: RabbitMQ) -> Iterator[LocalRabbitMQ]:
    """The session's node, back again if a test killed it."""
    yield LocalRabbitMQ(rabbitmq)
    if "node" not in rabbitmq.running:
        rabbitmq.start()


@pytest.fixture
def celery_broker(request: pytest.FixtureRequest) -> CeleryTestBroker:
    """Redis, unless the test is parametrised with another one."""
    if getattr(request, "param", "redis") == "rabbitmq":
        return RabbitMQTestBroker(request.getfixturevalue("default_rabbitmq_broker"))
    return RedisTestBroker(request.getfixturevalue("default_redis_broker"))


@pytest.fixture
def celery_backend_cluster() -> None:
    """There are no results: the record is the truth."""


@pytest.fixture
def system(celery_broker: CeleryTestBroker, system_settings: Settings) -> Settings:
    """The system over the test's own broker."""
    url = SecretStr(celery_broker.config()["host_url"])
    return system_settings.model_copy(update={"broker_url": url})


@pytest.fixture
def default_worker_container_cls() -> type[LocalWorker]:
    return LocalWorker


@pytest.fixture
def default_worker_env(processes: Processes) -> dict[str, str]:
    """The worker's servers; its own looks at the due index are off: only hints count."""
    return {
        **processes.environment(),
        "ARBE_KEEPER_SECONDS": "3600",
        "ARBE_STREAM_TIMEOUT_SECONDS": "1",
        "ARBE_DATABASE_TIMEOUT_SECONDS": "1",
    }


@pytest.fixture
def default_worker_container(
    default_worker_command: list[str], default_worker_env: dict[str, str], tmp_path: Path
) -> LocalWorker:
    """A worker process of this test alone; the plugin's node ends it."""
    return LocalWorker(default_worker_command, default_worker_env, tmp_path)
