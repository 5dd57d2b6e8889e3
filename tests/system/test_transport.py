"""The record's way to the broker, when the broker is well, silent or dead."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
import structlog
from pydantic import SecretStr

from dispatch import queues, task_names, transport
from dispatch.config import Settings
from dispatch.embedded import remembered
from dispatch.embedded.redis import Redis
from dispatch.errors import Unavailable
from dispatch.ids import AgentId, ThreadId
from dispatch.streams.connection import Connection
from dispatch.transport import Hint, Transport
from tests.system import brokers
from tests.system.local_nodes import LocalRedis
from tests.system.processes import wait_until
from tests.system.rabbitmq import RabbitMQ

HINT = Hint(ThreadId(uuid4()), AgentId(uuid4()), task_names.TURNS_QUEUE)
BLOCKED_SECONDS = 10.0
"""A hundred rings that waited for a silent broker would take a hundred seconds."""


@pytest_asyncio.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[LocalRedis]:
    server = Redis(tmp_path / "broker")
    await server.prepare()
    container = LocalRedis(server)
    container.ready()
    try:
        yield container
    finally:
        container.kill()


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def nowhere(request: pytest.FixtureRequest) -> Settings:
    """A broker's address at which nobody listens."""
    port = remembered.free_port()
    scheme = "redis" if request.param == "redis" else "amqp"
    return Settings(broker_url=SecretStr(f"{scheme}://127.0.0.1:{port}"))


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Transport]:
    """Make a transport as a record does."""
    if not transport.uses_redis(settings):
        bell = Transport(settings, push=None)
        try:
            yield bell
        finally:
            await bell.close()
        return
    broker = Connection(settings.broker, timeout_seconds=1)

    async def push(queue: str, messages: list[bytes]) -> None:
        await broker.call("LPUSH", queue, *messages)

    bell = Transport(settings, push=push)
    try:
        yield bell
    finally:
        await bell.close()
        await broker.close()


async def wait_length(own_redis: LocalRedis, length: int) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(own_redis.client.llen, HINT.queue) != length:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@brokers.on_both
async def test_a_broker_that_answers_is_well(system: Settings) -> None:
    async with opened(system) as bell:
        await asyncio.to_thread(bell.check)


@brokers.on_both
async def test_what_waits_at_the_broker_is_measured(system: Settings) -> None:
    await asyncio.to_thread(brokers.purge, system, HINT.queue)
    async with opened(system) as bell:
        bell.ring([HINT] * 3)
        await asyncio.to_thread(wait_until, lambda: brokers.depth(system, HINT.queue) == 3)
        absent, there = await asyncio.to_thread(queues.measure, system, ["no.such", HINT.queue])
    is_redis = transport.uses_redis(system)
    # An empty list of Redis does not exist, and nobody subscribes to one.
    assert (absent.messages, absent.consumers) == (0 if is_redis else None, None)
    assert (there.messages, there.consumers) == (3, None if is_redis else 0)
    await asyncio.to_thread(brokers.purge, system, HINT.queue)


async def test_a_dead_broker_costs_a_ring_nothing_but_its_hints(nowhere: Settings) -> None:
    with structlog.testing.capture_logs() as logs:
        async with opened(nowhere) as bell:
            assert ring_seconds(bell, count=1000) < BLOCKED_SECONDS
    assert {line["event"] for line in logs} == {"hints.lost"}
    assert sum(line["count"] for line in logs) == 1000


async def test_a_dead_broker_is_said_to_be_away(nowhere: Settings) -> None:
    await says_away(nowhere)


async def test_a_wrong_password_is_said_to_be_a_broker_away(own_redis: LocalRedis) -> None:
    wrong = own_redis.server.url.replace("redis://:", "redis://:x")
    await says_away(Settings(broker_url=SecretStr(wrong)))


@pytest.mark.rabbitmq
async def test_a_wrong_rabbitmq_password_is_said_to_be_a_broker_away(
    rabbitmq: RabbitMQ,
) -> None:
    wrong = rabbitmq.url.replace("guest:guest", "guest:x")
    await says_away(Settings(broker_url=SecretStr(wrong)))


async def says_away(settings: Settings) -> None:
    async with opened(settings) as bell:
        with pytest.raises(Unavailable, match="broker"):
            await asyncio.to_thread(bell.check)
        with pytest.raises(Unavailable, match="broker"):
            await asyncio.to_thread(queues.measure, settings, [HINT.queue])


async def test_a_silent_broker_blocks_no_loop_and_gets_the_hints_of_later(
    own_redis: LocalRedis,
) -> None:
    async with opened(Settings(broker_url=SecretStr(own_redis.server.url))) as bell:
        bell.ring([HINT])
        await wait_length(own_redis, 1)
        own_redis.kill("SIGSTOP")
        assert ring_seconds(bell, count=100) < BLOCKED_SECONDS
        with pytest.raises(Unavailable):
            await asyncio.to_thread(bell.check)
        own_redis.kill("SIGCONT")
        bell.ring([HINT])
    assert own_redis.client.llen(HINT.queue) >= 2


async def test_the_first_hint_after_a_broker_restart_arrives(own_redis: LocalRedis) -> None:
    async with opened(Settings(broker_url=SecretStr(own_redis.server.url))) as bell:
        bell.ring([HINT])
        await wait_length(own_redis, 1)
        own_redis.kill()
        own_redis.restart()
        bell.ring([HINT])
    assert own_redis.client.llen(HINT.queue) == 2


@pytest.mark.rabbitmq
async def test_the_first_hint_after_a_rabbitmq_hung_up_arrives(rabbitmq: RabbitMQ) -> None:
    settings = Settings(broker_url=SecretStr(rabbitmq.url))
    brokers.purge(settings, HINT.queue)
    async with opened(settings) as bell:
        bell.ring([HINT])
        wait_until(lambda: brokers.purge(settings, HINT.queue) == 1)
        assert isinstance(bell._bell, transport._AmqpBell)
        assert bell._bell._connection is not None
        bell._bell._connection.connection.sock.shutdown(socket.SHUT_RDWR)
        bell.ring([HINT])
    assert brokers.purge(settings, HINT.queue) == 1


def ring_seconds(bell: Transport, *, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        bell.ring([HINT])
    return time.perf_counter() - began
