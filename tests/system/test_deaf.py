"""A worker that hears nothing from its broker notices, keeps its runs, and makes room."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from kombu import Connection

from dispatch.config import Settings
from tests.system import brokers
from tests.system.houses import Casa
from tests.system.own_servers import OwnServers, own_servers, silent
from tests.system.processes import Processes, is_healthy, wait_until
from tests.system.rabbitmq import RabbitMQ
from workers.leaving import RESTART_CODE

STARTED = "signal.dispatch.started"
COMPLETED = "signal.dispatch.completed"
SHARP = {"ARBE_EAR_SECONDS": "0.5", "ARBE_DEAF_AFTER_SECONDS": "3"}
END_SECONDS = 60.0


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[OwnServers]:
    async with own_servers(tmp_path) as started:
        yield started


@pytest.fixture
def system(request: pytest.FixtureRequest, system_settings: Settings) -> Settings:
    """The system over a broker that a test may silence: Redis, or RabbitMQ if it says so."""
    servers: OwnServers = request.getfixturevalue("servers")
    settings = servers.settings(system_settings)
    if getattr(request, "param", "redis") == "redis":
        return settings
    node: RabbitMQ = request.getfixturevalue("rabbitmq")
    return settings.model_copy(update={"broker_url": type(settings.broker_url)(node.url)})


def said(processes: Processes, what: str) -> int:
    return (processes.folder / "log").read_text(errors="replace").count(what)


def start_deafened(
    processes: Processes, *, concurrency: int = 20
) -> tuple["subprocess.Popen[bytes]", Path]:
    """Start a worker that consumes nothing while the returned file exists."""
    file = processes.folder / "deafened"
    worker = processes.start(
        *("celery", "-q", "-A", "tests.system.deafened", "worker", "-P", "threads"),
        *("-c", str(concurrency), "--without-gossip", "--without-mingle", "-l", "WARNING"),
        **SHARP,
        DEAFENED=str(file),
    )
    return worker, file


@brokers.on_both
async def test_an_idle_worker_hears_itself_and_leaves_nothing_behind(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker(**SHARP)
    wait_until(lambda: said(processes, "worker.ready") == 1)
    await asyncio.sleep(5)
    assert said(processes, "worker.deaf") == 0
    assert is_healthy(processes)
    assert processes.end(worker, by=signal.SIGTERM) == 0
    if casa.record.settings.broker.startswith("redis"):
        with Connection(casa.record.settings.broker) as connection:
            client = connection.default_channel.client
            assert all(client.pttl(key) > 0 for key in client.keys("*ear*"))


async def test_a_worker_that_consumes_nothing_keeps_its_run_and_then_makes_room(
    casa: Casa, processes: Processes
) -> None:
    worker, file = start_deafened(processes)
    thread_id, other_id = await casa.dm(), await casa.dm()
    await casa.post(thread_id, "mute: 12")
    await casa.wait(thread_id, lambda types: STARTED in types)
    file.touch()
    await asyncio.to_thread(wait_until, lambda: said(processes, "worker.deaf") == 1)
    assert said(processes, "none of them arrives")
    await asyncio.to_thread(wait_until, lambda: not is_healthy(processes))
    await casa.post(thread_id, "after")
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count(STARTED) == 1
    code = await asyncio.to_thread(worker.wait, END_SECONDS)
    assert code == RESTART_CODE
    assert (await casa.types(thread_id)).count(STARTED) == 1
    await casa.post(other_id, "hello")
    processes.start_worker()
    await casa.wait(other_id, lambda types: COMPLETED in types)
    await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)


async def test_a_worker_that_hears_again_goes_on(casa: Casa, processes: Processes) -> None:
    worker, file = start_deafened(processes)
    thread_id, other_id = await casa.dm(), await casa.dm()
    await casa.post(thread_id, "mute: 30")
    await casa.wait(thread_id, lambda types: STARTED in types)
    file.touch()
    await asyncio.to_thread(wait_until, lambda: said(processes, "worker.deaf") == 1)
    file.unlink()
    await asyncio.to_thread(wait_until, lambda: said(processes, "worker.hears_again") == 1)
    await casa.post(other_id, "hello")
    await casa.wait(other_id, lambda types: COMPLETED in types)
    assert worker.poll() is None


async def test_a_saturated_worker_is_not_deaf(casa: Casa, processes: Processes) -> None:
    worker = processes.start_worker(concurrency=1, **SHARP)
    thread_id, other_id = await casa.dm(), await casa.dm()
    await casa.post(thread_id, "mute: 8")
    await casa.wait(thread_id, lambda types: STARTED in types)
    await casa.post(other_id, "hello")
    await casa.wait(other_id, lambda types: COMPLETED in types)
    assert said(processes, "worker.deaf") == 0
    assert worker.poll() is None


@brokers.on_both
async def test_a_worker_without_its_broker_ends_when_it_holds_no_run(
    casa: Casa, processes: Processes, request: pytest.FixtureRequest
) -> None:
    worker = processes.start_worker(**SHARP)
    thread_id = await casa.dm()
    await casa.post(thread_id, "mute: 6")
    await casa.wait(thread_id, lambda types: STARTED in types)
    node = None
    if casa.record.settings.broker.startswith("redis"):
        request.getfixturevalue("servers").broker.kill()
    else:
        node = request.getfixturevalue("rabbitmq")
        node.stop()
    try:
        code = await asyncio.to_thread(worker.wait, END_SECONDS)
    finally:
        if node is not None:
            node.start()
    assert code == RESTART_CODE
    types = await casa.types(thread_id)
    assert types.count(STARTED) == types.count(COMPLETED) == 1


async def test_a_worker_whose_broker_is_silent_ends_too(
    casa: Casa, processes: Processes, servers: OwnServers
) -> None:
    worker = processes.start_worker(**SHARP)
    wait_until(lambda: said(processes, "worker.ready") == 1)
    with silent(servers.broker):
        code = await asyncio.to_thread(worker.wait, END_SECONDS)
    assert code == RESTART_CODE
    assert said(processes, "worker.deaf") == 1


async def test_a_worker_that_never_met_its_broker_ends_too(
    casa: Casa, processes: Processes, servers: OwnServers
) -> None:
    servers.broker.kill()
    worker = processes.start_worker(**SHARP)
    assert await asyncio.to_thread(worker.wait, END_SECONDS) == RESTART_CODE
    assert said(processes, "never reached the broker") == 1


async def test_sigterm_while_deaf_ends_in_time_and_gives_back(
    casa: Casa, processes: Processes
) -> None:
    worker, file = start_deafened(processes)
    thread_id = await casa.dm()
    await casa.post(thread_id, "mute: 600")
    await casa.wait(thread_id, lambda types: STARTED in types)
    file.touch()
    await asyncio.to_thread(wait_until, lambda: said(processes, "worker.deaf") == 1)
    assert processes.end(worker, by=signal.SIGTERM) == 0
    assert (await casa.types(thread_id))[-1] == "signal.dispatch.released"
