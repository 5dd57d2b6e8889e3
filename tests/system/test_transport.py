"""The record's way to the broker, when the broker is well, silent or dead."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
import structlog
from pydantic import SecretStr

from dispatch import task_names
from dispatch.config import Settings
from dispatch.embedded.redis import Redis
from dispatch.errors import Unavailable
from dispatch.ids import AgentId, ThreadId
from dispatch.transport import Hint, Transport
from tests.system import brokers
from tests.system.local_nodes import LocalRedis
from tests.system.processes import wait_until
from tests.system.rabbitmq import RabbitMQ

HINT = Hint(ThreadId(uuid4()), AgentId(uuid4()), task_names.TURNS_QUEUE)
BLOCKED_SECONDS = 0.1
"""A ring that waited for a broker would take seconds."""


@pytest_asyncio.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[LocalRedis]:
    server = Redis(tmp_path / "broker")
    await server.prepare()
    container = LocalRedis(server)
    container.ready()
    yield container
    container.kill()


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def nowhere(request: pytest.FixtureRequest) -> Settings:
    """A broker's address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scheme = "redis" if request.param == "redis" else "amqp"
    return Settings(broker_url=SecretStr(f"{scheme}://127.0.0.1:{port}"))


@brokers.on_both
async def test_a_broker_that_answers_is_well(system: Settings) -> None:
    bell = Transport(system)
    await asyncio.to_thread(bell.check)
    bell.close()


def test_a_dead_broker_costs_a_ring_nothing_but_its_hints(nowhere: Settings) -> None:
    bell = Transport(nowhere)
    with structlog.testing.capture_logs() as logs:
        assert ring_seconds(bell, count=1000) < BLOCKED_SECONDS
        bell.close()
    assert {line["event"] for line in logs} == {"hints.lost"}
    assert sum(line["count"] for line in logs) == 1000


def test_a_dead_broker_is_said_to_be_away(nowhere: Settings) -> None:
    bell = Transport(nowhere)
    with pytest.raises(Unavailable, match="broker"):
        bell.check()
    bell.close()


def test_a_wrong_password_is_said_to_be_a_broker_away(own_redis: LocalRedis) -> None:
    wrong = own_redis.server.url.replace("redis://:", "redis://:x")
    bell = Transport(Settings(broker_url=SecretStr(wrong)))
    with pytest.raises(Unavailable, match="broker"):
        bell.check()
    bell.close()


@pytest.mark.rabbitmq
def test_a_wrong_rabbitmq_password_is_said_to_be_a_broker_away(rabbitmq: RabbitMQ) -> None:
    wrong = rabbitmq.url.replace("guest:guest", "guest:x")
    bell = Transport(Settings(broker_url=SecretStr(wrong)))
    with pytest.raises(Unavailable, match="broker"):
        bell.check()
    bell.close()


async def test_a_silent_broker_blocks_no_loop_and_gets_the_hints_of_later(
    own_redis: LocalRedis,
) -> None:
    bell = Transport(Settings(broker_url=SecretStr(own_redis.server.url)))
    bell.ring([HINT])
    wait_until(lambda: own_redis.client.llen(HINT.queue) == 1)
    own_redis.kill("SIGSTOP")
    assert ring_seconds(bell, count=100) < BLOCKED_SECONDS
    with pytest.raises(Unavailable):
        await asyncio.to_thread(bell.check)
    own_redis.kill("SIGCONT")
    bell.ring([HINT])
    await asyncio.to_thread(bell.close)
    assert own_redis.client.llen(HINT.queue) >= 2


async def test_the_first_hint_after_a_broker_restart_arrives(own_redis: LocalRedis) -> None:
    bell = Transport(Settings(broker_url=SecretStr(own_redis.server.url)))
    bell.ring([HINT])
    wait_until(lambda: own_redis.client.llen(HINT.queue) == 1)
    own_redis.kill()
    own_redis.restart()
    bell.ring([HINT])
    bell.close()
    assert own_redis.client.llen(HINT.queue) == 2


@pytest.mark.rabbitmq
async def test_the_first_hint_after_a_rabbitmq_hung_up_arrives(rabbitmq: RabbitMQ) -> None:
    settings = Settings(broker_url=SecretStr(rabbitmq.url))
    brokers.purge(settings, HINT.queue)
    bell = Transport(settings)
    bell.ring([HINT])
    wait_until(lambda: brokers.purge(settings, HINT.queue) == 1)
    assert bell._connection is not None
    bell._connection.connection.sock.shutdown(socket.SHUT_RDWR)
    bell.ring([HINT])
    bell.close()
    assert brokers.purge(settings, HINT.queue) == 1


def ring_seconds(bell: Transport, *, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        bell.ring([HINT])
    return time.perf_counter() - began
