"""`dispatch.post_entry`, sent by name by a service that knows the broker and nothing else."""

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import psycopg
import pytest
import redis
from celery import Celery
from pytest_celery import CeleryTestSetup

from dispatch import payloads
from dispatch.config import Settings
from dispatch.ids import ThreadId
from dispatch.task_names import POST_ENTRY, PRODUCERS_QUEUE
from tests.system import brokers
from tests.system.houses import Casa
from tests.system.processes import wait_until

COMPLETED = "signal.dispatch.completed"
on_both_nodes = pytest.mark.parametrize(
    "celery_broker",
    ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)],
    indirect=True,
)
own_servers_only = pytest.mark.skipif(
    bool(os.environ.get("STREAM_URL") or os.environ.get("DATABASE_URL")),
    reason="pauses the servers' processes, which must be this test run's own",
)


@pytest.fixture
def service(celery_setup: CeleryTestSetup, system: Settings) -> Iterator[Celery]:
    """Another team's Celery app: a broker URL, nothing of ours."""
    with Celery("shop", broker=system.broker, set_as_current=False) as app:
        yield app


@on_both_nodes
async def test_an_entry_sent_three_times_with_one_key_is_posted_once(
    celery_setup: CeleryTestSetup, casa: Casa, service: Celery
) -> None:
    thread_id = await casa.dm()
    for _ in range(3):
        send(service, thread=str(thread_id), text="hello", key="order-1")
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    wait_until(lambda: is_empty(celery_setup, casa))
    types = await casa.types(thread_id)
    assert types.count("chat") == types.count(COMPLETED) == 1
    chat = next(e.payload for e in await casa.entries(thread_id) if b'"chat"' in e.raw)
    assert isinstance(chat, payloads.Chat)
    assert (chat.by.kind, chat.text) == ("service", "hello")


@on_both_nodes
async def test_a_message_that_cannot_be_posted_is_refused_with_one_line(
    celery_setup: CeleryTestSetup, casa: Casa, service: Celery
) -> None:
    assert celery_setup.ready()
    thread_id = str(await casa.dm())
    refused: list[dict[str, object]] = [
        {},
        {"thread": thread_id},
        {"thread": 5, "text": "x"},
        {"thread": "x" * 100_000, "text": "x"},
        {"thread": thread_id, "text": ["x"]},
        {"thread": thread_id, "text": " "},
        {"thread": thread_id, "text": "x", "key": 7},
        {"thread": thread_id, "text": "x", "mentions": ["nobody"]},
        {"thread": thread_id, "text": "x", "unknown": 1},
        {"thread": thread_id, "text": "x", "when_busy": "panic"},
        {"thread": thread_id, "text": "x", "if_status": ["failed"]},
        {"thread": thread_id, "text": "x", "token": "arbe_owner_" + "x" * 40},
        {"thread": str(uuid.uuid4()), "text": "x"},
        {"thread": thread_id, "text": "x" * 300_000},
    ]
    for arguments in refused:
        send(service, **arguments)
    service.send_task(POST_ENTRY, args=list("abcdefgh"), queue=PRODUCERS_QUEUE)
    service.send_task(POST_ENTRY, args=[thread_id, "by position"], queue=PRODUCERS_QUEUE)
    await casa.wait(ThreadId(uuid.UUID(thread_id)), lambda types: COMPLETED in types)
    wait_until(lambda: celery_setup.worker.logs().count("producer.refused") > len(refused))
    wait_until(lambda: is_empty(celery_setup, casa))
    log = celery_setup.worker.logs()
    assert log.count("producer.refused") == len(refused) + 1
    assert len(log) < 20_000
    assert "Traceback" not in log
    assert (await casa.types(ThreadId(uuid.UUID(thread_id)))).count("chat") == 1


@own_servers_only
@on_both_nodes
async def test_a_message_waits_for_a_stream_that_is_away(
    celery_setup: CeleryTestSetup, casa: Casa, service: Celery
) -> None:
    thread_id = await casa.dm()
    with paused(stream_processes(casa)):
        send(service, thread=str(thread_id), text="hello", key="k")
        celery_setup.worker.wait_for_log("producer.waits", timeout=20)
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert (await casa.types(thread_id)).count("chat") == 1


@own_servers_only
async def test_a_message_waits_for_a_postgres_that_is_away(
    celery_setup: CeleryTestSetup, casa: Casa, service: Celery
) -> None:
    thread_id = await casa.dm()
    with paused(postgres_processes(casa)):
        send(service, thread=str(thread_id), text="hello", key="k")
        celery_setup.worker.wait_for_log("producer.waits", timeout=20)
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert (await casa.types(thread_id)).count("chat") == 1


@own_servers_only
@on_both_nodes
async def test_a_worker_killed_in_the_middle_loses_no_message(
    celery_setup: CeleryTestSetup, casa: Casa, service: Celery
) -> None:
    thread_id = await casa.dm()
    with paused(stream_processes(casa)):
        send(service, thread=str(thread_id), text="hello", key="k")
        celery_setup.worker.wait_for_log("producer.waits", timeout=20)
        celery_setup.worker.kill()
    if casa.record.settings.broker.startswith("redis"):
        age_the_unacknowledged(casa.record.settings.broker)
    celery_setup.worker.restart()
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert (await casa.types(thread_id)).count("chat") == 1


@own_servers_only
async def test_a_worker_told_to_end_gives_a_waiting_message_back(
    celery_setup: CeleryTestSetup, casa: Casa, service: Celery
) -> None:
    thread_id = await casa.dm()
    with paused(stream_processes(casa)):
        send(service, thread=str(thread_id), text="hello", key="k")
        celery_setup.worker.wait_for_log("producer.waits", timeout=20)
        celery_setup.worker.container.life.process.send_signal(signal.SIGTERM)
        wait_until(lambda: celery_setup.broker.container.client.llen(PRODUCERS_QUEUE) == 1)
    assert celery_setup.worker.container.life.process.wait(30) == 0
    celery_setup.worker.restart()
    await casa.wait(thread_id, lambda types: COMPLETED in types)


@own_servers_only
async def test_a_broker_that_is_away_when_a_message_is_done_ends_no_worker(
    celery_setup: CeleryTestSetup, casa: Casa, service: Celery
) -> None:
    thread_id = await casa.dm()
    pid = celery_setup.worker.container.life.pid
    with paused(stream_processes(casa)):
        send(service, thread=str(thread_id), text="hello", key="k")
        celery_setup.worker.wait_for_log("producer.waits", timeout=20)
        celery_setup.broker.kill()
        celery_setup.worker.wait_for_log("Trying again in", timeout=30)
    # The message is done while there is nobody to acknowledge it to.
    await casa.wait(thread_id, lambda types: "chat" in types)
    celery_setup.broker.restart()
    await casa.post(thread_id, "again")
    types = await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert types.count("chat") == 2
    assert celery_setup.worker.container.status == "running"
    assert celery_setup.worker.container.life.pid == pid


def send(service: Celery, **arguments: object) -> None:
    service.send_task(POST_ENTRY, kwargs=arguments, queue=PRODUCERS_QUEUE)


def is_empty(setup: CeleryTestSetup, casa: Casa) -> bool:
    """Tell whether the producers' queue has nothing left, delivered or not."""
    broker = casa.record.settings.broker
    if broker.startswith("redis"):
        with redis.Redis.from_url(broker) as client:
            return not client.llen(PRODUCERS_QUEUE) and not client.hlen("unacked")
    return brokers.depth(casa.record.settings, PRODUCERS_QUEUE) == 0


def age_the_unacknowledged(broker: str) -> None:
    """Let the visibility timeout be over."""
    with redis.Redis.from_url(broker) as client:
        aged = dict.fromkeys(client.zrange("unacked_index", 0, -1), 1.0)
        assert client.zadd("unacked_index", aged, xx=True, ch=True) == 1


@contextmanager
def paused(found: list[psutil.Process]) -> Iterator[None]:
    """Let server processes be silent for the length of a block."""
    for process in found:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(found):
            process.resume()


def stream_processes(casa: Casa) -> list[psutil.Process]:
    with redis.Redis.from_url(casa.record.settings.stream_url.get_secret_value()) as client:
        return [psutil.Process(client.info("server")["process_id"])]


def postgres_processes(casa: Casa) -> list[psutil.Process]:
    with psycopg.connect(casa.record.settings.database_url.get_secret_value()) as connection:
        pid = connection.info.backend_pid
        server = psutil.Process(pid).parent()
    assert server is not None
    return [server, *(each for each in server.children() if each.pid != pid)]
