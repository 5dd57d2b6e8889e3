"""One worker process and its broker: hints good and bad, restarts and kills."""

import uuid

import pytest
from pytest_celery import CeleryTestSetup

from dispatch import task_names, transport
from dispatch.streams import lanes
from tests.system.houses import Casa
from tests.system.rabbitmq import CONSUMER_TIMEOUT_MS

STARTED = "signal.dispatch.started"
COMPLETED = "signal.dispatch.completed"

on_both_nodes = pytest.mark.parametrize(
    "celery_broker",
    ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)],
    indirect=True,
)


async def test_a_ready_worker_is_present_and_takes_hints(
    celery_setup: CeleryTestSetup, casa: Casa
) -> None:
    before = await lanes.now_ms(casa.record.connection)
    assert celery_setup.ready(ping=False, control=False, docker=True)
    last = await lanes.beat_at(casa.record.connection, None)
    assert last is not None
    assert last > before - 10_000
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    await casa.wait(thread_id, lambda types: COMPLETED in types)


@on_both_nodes
async def test_repeated_and_forged_hints_run_nothing_twice_and_end_nobody(
    celery_setup: CeleryTestSetup, casa: Casa
) -> None:
    assert celery_setup.ready()
    worker = celery_setup.worker
    celery_setup.app.conf.update(transport.celery_settings(casa.record.settings))
    thread_id = await casa.dm()
    await casa.post(thread_id, "mute: 1")
    for _ in range(5):
        ring(celery_setup, str(thread_id), str(casa.agent.id))
    ring(celery_setup)
    ring(celery_setup, 1, None)
    ring(celery_setup, "no thread", "no lane")
    ring(celery_setup, {"a": []}, ["b"], "c")
    ring(celery_setup, str(uuid.uuid4()), str(casa.agent.id))
    ring(celery_setup, x=1)
    celery_setup.app.send_task("os.system", args=["true"], queue=task_names.TURNS_QUEUE)
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    await casa.post(thread_id, "hello")
    types = await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert types.count(STARTED) == 2
    assert worker.container.life.status == "running"
    assert worker.logs().count("hint.malformed") == 5
    assert "raised unexpected" not in worker.logs()


@on_both_nodes
async def test_a_turn_goes_on_while_its_broker_restarts(
    celery_setup: CeleryTestSetup, casa: Casa
) -> None:
    assert celery_setup.ready()
    thread_id = await casa.dm()
    await casa.post(thread_id, "mute: 4")
    await casa.wait(thread_id, lambda types: STARTED in types)
    pid = celery_setup.worker.container.life.pid
    celery_setup.broker.kill()
    celery_setup.broker.restart()
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count(STARTED) == types.count("pi.assistant") == 1
    await casa.post(thread_id, "hello")
    await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert celery_setup.worker.container.life.pid == pid
    assert celery_setup.worker.container.status == "running"


@pytest.mark.rabbitmq
@pytest.mark.parametrize("celery_broker", ["rabbitmq"], indirect=True)
async def test_rabbitmqs_consumer_timeout_ends_no_turn(
    celery_setup: CeleryTestSetup, casa: Casa
) -> None:
    assert celery_setup.ready()
    pid = celery_setup.worker.container.life.pid
    thread_id = await casa.dm()
    await casa.post(thread_id, f"mute: {CONSUMER_TIMEOUT_MS / 1000 + 2}")
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count(STARTED) == 1
    await casa.post(thread_id, "hello")
    await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert celery_setup.worker.container.life.pid == pid
    assert "onnection to broker lost" not in celery_setup.worker.logs()


async def test_what_is_no_message_at_all_is_dropped_and_the_next_hint_runs(
    celery_setup: CeleryTestSetup, casa: Casa
) -> None:
    assert celery_setup.ready()
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    pid = celery_setup.worker.container.life.pid
    client = celery_setup.broker.container.client
    client.lpush(task_names.TURNS_QUEUE, "garbage", "{}", "[]", "null", '{"body": 1}')
    await casa.post(thread_id, "hello")
    await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert celery_setup.worker.container.life.pid == pid
    assert celery_setup.worker.container.status == "running"


async def test_a_worker_that_is_killed_and_started_again_takes_the_next_hint(
    celery_setup: CeleryTestSetup, casa: Casa
) -> None:
    assert celery_setup.ready()
    celery_setup.worker.kill()
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    celery_setup.worker.restart()
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count(STARTED) == 1


def ring(setup: CeleryTestSetup, *arguments: object, **named: object) -> None:
    setup.app.send_task(
        task_names.RUN_LANE, args=arguments, kwargs=named, queue=task_names.TURNS_QUEUE
    )
