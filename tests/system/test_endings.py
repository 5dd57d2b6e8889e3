"""However a worker process ends, or cannot, it is gone in time and its record is in order."""

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dispatch.config import Settings
from dispatch.stores.postgres import agents, engine
from dispatch.streams import lanes
from tests.system import runners
from tests.system.houses import Casa
from tests.system.own_servers import OwnServers, own_servers, silent
from tests.system.processes import SHORT_CLOCKS, Processes, is_healthy, wait_until
from workers.leaving import ABANDONED_CODE, LEAVE_SECONDS, RESTART_CODE

STARTED = "signal.dispatch.started"
RELEASED = "signal.dispatch.released"
COMPLETED = "signal.dispatch.completed"
FAILED = "signal.dispatch.failed"
DRAIN_SECONDS = float(SHORT_CLOCKS["ARBE_DRAIN_SECONDS"])
IN_TIME_SECONDS = DRAIN_SECONDS + LEAVE_SECONDS + 20
"""The promise, and a busy machine; what hangs would do so for ever."""
WEDGED = {"ARBE_WEDGED_AFTER_SECONDS": "3"}


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[OwnServers]:
    async with own_servers(tmp_path) as started:
        yield started


@pytest.fixture
def system(system_settings: Settings, servers: OwnServers) -> Settings:
    """The system over servers that a test may silence."""
    return servers.settings(system_settings)


async def ending(worker: "subprocess.Popen[bytes]") -> tuple[int, float]:
    """Return exit code and how long it took from now."""
    began = time.monotonic()
    code = await asyncio.to_thread(worker.wait, IN_TIME_SECONDS + 10)
    return code, time.monotonic() - began


def log_of(processes: Processes) -> str:
    return (processes.folder / "log").read_text(errors="replace")


async def use_runner(casa: Casa, runner: str) -> None:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        await agents.update(connection, agent_id=casa.agent.id, runner=runner)


async def test_a_worker_whose_loop_hangs_ends_itself_and_shows_where(
    casa: Casa, processes: Processes, tmp_path: Path
) -> None:
    await use_runner(casa, "blocking")
    worker = processes.start_worker(PYTHONPATH=runners.offer(tmp_path), **WEDGED)
    thread_id = await casa.dm()
    await casa.post(thread_id, "hang")
    await casa.wait(thread_id, lambda types: STARTED in types)
    code, _ = await ending(worker)
    assert code == RESTART_CODE
    log = log_of(processes)
    assert "worker.wedged" in log
    assert "in blocking" in log
    await use_runner(casa, "demo")
    processes.start_worker()
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count(STARTED) == 2


async def test_code_that_holds_the_interpreter_ends_its_worker_too(
    casa: Casa, processes: Processes, tmp_path: Path
) -> None:
    await use_runner(casa, "hoarding")
    worker = processes.start_worker(PYTHONPATH=runners.offer(tmp_path), **WEDGED)
    thread_id = await casa.dm()
    await casa.post(thread_id, "hang")
    await casa.wait(thread_id, lambda types: STARTED in types)
    # Its beats have stopped long before its second net ends it.
    await asyncio.to_thread(wait_until, lambda: not is_healthy(processes))
    assert worker.poll() is None
    code, _ = await ending(worker)
    assert code == 1
    assert "in hoarding" in log_of(processes)


async def test_a_worker_that_was_paused_as_a_whole_is_not_wedged(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker(**WEDGED)
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(4)
    worker.send_signal(signal.SIGCONT)
    await casa.post(thread_id, "mute: 4")
    await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert worker.poll() is None


async def test_a_worker_that_lost_a_part_of_itself_drains_and_makes_room(
    casa: Casa, processes: Processes
) -> None:
    thread_id = await casa.dm()
    await casa.post(thread_id, "mute: 600")
    worker = processes.start(
        *("celery", "-q", "-A", "tests.system.broken", "worker", "-P", "threads", "-c", "5"),
        *("--without-gossip", "--without-mingle", "-l", "WARNING"),
        ARBE_KEEPER_SECONDS="3",
    )
    await casa.wait(thread_id, lambda types: STARTED in types)
    code, _ = await ending(worker)
    assert code == RESTART_CODE
    assert (await casa.types(thread_id))[-1] == RELEASED
    assert "a bug in the keeper" in log_of(processes)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_told_twice_is_told_once_whatever_the_signal(
    casa: Casa, processes: Processes, how: signal.Signals
) -> None:
    worker = processes.start_worker()
    touched = await casa.dm()
    await casa.post(touched, "sleep: 600")
    await casa.wait_words(touched, timeout_seconds=30)
    worker.send_signal(how)
    await asyncio.sleep(0.5)
    worker.send_signal(how)
    code, seconds = await ending(worker)
    assert code == 0
    assert seconds < IN_TIME_SECONDS
    assert (await casa.types(touched)).count(FAILED) == 1
    assert log_of(processes).count("worker.draining") == 1


@pytest.mark.parametrize("how", ["dead", "silent"])
async def test_sigterm_without_a_broker_ends_in_time_and_in_order(
    casa: Casa, processes: Processes, servers: OwnServers, how: str
) -> None:
    worker = processes.start_worker()
    touched, untouched = await casa.dm(), await casa.dm()
    await casa.post(touched, "sleep: 600")
    await casa.post(untouched, "mute: 600")
    await casa.wait_words(touched, timeout_seconds=30)
    await casa.wait(untouched, lambda types: STARTED in types)
    if how == "dead":
        servers.broker.kill()
        worker.send_signal(signal.SIGTERM)
        code, seconds = await ending(worker)
    else:
        with silent(servers.broker):
            worker.send_signal(signal.SIGTERM)
            code, seconds = await ending(worker)
    assert code == 0
    assert seconds < IN_TIME_SECONDS
    assert (await casa.types(touched)).count(FAILED) == 1
    assert (await casa.types(untouched))[-1] == RELEASED
    assert not await living(casa)


async def test_a_worker_that_never_met_its_broker_ends_at_sigterm(
    casa: Casa, processes: Processes, servers: OwnServers
) -> None:
    servers.broker.kill()
    worker = processes.start_worker()
    await asyncio.to_thread(wait_until, lambda: "Cannot connect to" in log_of(processes))
    worker.send_signal(signal.SIGTERM)
    code, seconds = await ending(worker)
    assert code == 0
    assert seconds < IN_TIME_SECONDS


async def test_sigterm_without_a_stream_ends_in_time_and_the_run_is_found(
    casa: Casa, processes: Processes, servers: OwnServers
) -> None:
    worker = processes.start_worker()
    touched, untouched = await casa.dm(), await casa.dm()
    await casa.post(touched, "sleep: 600")
    await casa.post(untouched, "mute: 1")
    await casa.wait_words(touched, timeout_seconds=30)
    await casa.wait(untouched, lambda types: STARTED in types)
    with silent(servers.stream):
        worker.send_signal(signal.SIGTERM)
        code, seconds = await ending(worker)
    assert code == ABANDONED_CODE
    assert seconds < IN_TIME_SECONDS
    processes.start_worker()
    types = await casa.wait(touched, lambda types: FAILED in types)
    assert types.count(FAILED) == 1
    types = await casa.wait(untouched, lambda types: COMPLETED in types)
    assert types.count(COMPLETED) == 1


async def living(casa: Casa) -> list[str]:
    connection = casa.record.connection
    return list(await lanes.list_living_workers(connection, alive_within_seconds=60))
