"""A cancel ends what runs, whatever its agent and its processes do."""

import asyncio
import signal
from pathlib import Path

import pytest

from dispatch.ids import DispatchId, ThreadId
from dispatch.models.threads import NewThread
from dispatch.operations import cancel_many
from dispatch.operations.record import open_record
from dispatch.payloads.signals import Cancelled, CancelRequested
from dispatch.stores.postgres import agents, engine, threads
from tests.system import runners
from tests.system.houses import Casa
from tests.system.processes import SHORT_CLOCKS, Processes, wait_until

STARTED = "signal.dispatch.started"
CANCELLED = "signal.dispatch.cancelled"
COMPLETED = "signal.dispatch.completed"
SWEEP_SECONDS = float(SHORT_CLOCKS["ARBE_KEEPER_SECONDS"])
LATE_SECONDS = 20 * SWEEP_SECONDS
"""After the deadline: one look at the due index, and a busy machine."""


async def use_runner(casa: Casa, runner: str) -> None:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        await agents.update(connection, agent_id=casa.agent.id, runner=runner)


async def started(casa: Casa, text: str) -> tuple[ThreadId, DispatchId]:
    thread_id = await casa.dm()
    accepted = await casa.post(thread_id, text)
    await casa.wait(thread_id, lambda types: STARTED in types)
    return thread_id, accepted.dispatches[0][0]


async def cancel(casa: Casa, thread_id: ThreadId, dispatch_id: DispatchId) -> None:
    done = await cancel_many.cancel_dispatch(casa.record, casa.who, thread_id, dispatch_id)
    assert done.status == "requested"


async def ended_by_force(casa: Casa, thread_id: ThreadId) -> None:
    """Wait for the one terminal, and check that the record wrote it soon after the deadline."""
    types = await casa.wait(thread_id, lambda types: CANCELLED in types)
    assert types.count(CANCELLED) == types.count(STARTED) == 1
    found = await casa.entries(thread_id)
    asked = next(e.payload for e in found if isinstance(e.payload, CancelRequested))
    end = next(e for e in found if isinstance(e.payload, Cancelled))
    assert isinstance(end.payload, Cancelled)
    assert end.payload.reason == "cancel_grace"
    assert 0 <= end.at - asked.deadline <= LATE_SECONDS * 1000
    assert found[-1] == end  # whatever the agent said later


async def test_an_agent_that_ignores_its_cancel_is_ended_after_the_grace(
    casa: Casa, processes: Processes, tmp_path: Path
) -> None:
    await use_runner(casa, "stubborn")
    processes.start_worker(PYTHONPATH=runners.offer(tmp_path))
    thread_id, dispatch_id = await started(casa, "never end")
    await casa.wait_words(thread_id)
    await cancel(casa, thread_id, dispatch_id)
    await ended_by_force(casa, thread_id)
    # The worker is of use still, and so is the lane.
    await use_runner(casa, "demo")
    await casa.post(thread_id, "hello")
    types = await casa.wait(thread_id, lambda types: types[-1] == COMPLETED)
    assert types.count(CANCELLED) == 1


async def test_an_agent_that_blocks_its_worker_is_ended_by_another(
    casa: Casa, processes: Processes, tmp_path: Path
) -> None:
    await use_runner(casa, "blocking")
    path = runners.offer(tmp_path)
    processes.start_worker(PYTHONPATH=path, ARBE_WORKER_DEAD_SECONDS="60")
    thread_id, dispatch_id = await started(casa, "hang")
    processes.start_worker(PYTHONPATH=path, ARBE_WORKER_DEAD_SECONDS="60")
    log = processes.folder / "log"
    await asyncio.to_thread(wait_until, lambda: log.read_text().count("worker.ready") == 2)
    await cancel(casa, thread_id, dispatch_id)
    await ended_by_force(casa, thread_id)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_cancelled_turn_is_not_run_again_when_its_worker_goes(
    casa: Casa, processes: Processes, how: signal.Signals
) -> None:
    worker = processes.start_worker(ARBE_HEARTBEAT_SECONDS="1", ARBE_LEASE_SECONDS="60")
    # Without a word: by itself it would be given back, or tried again.
    thread_id, dispatch_id = await started(casa, "mute: 600")
    await cancel(casa, thread_id, dispatch_id)
    await asyncio.to_thread(processes.end, worker, by=how)
    processes.start_worker()
    types = await casa.wait(thread_id, lambda types: CANCELLED in types)
    assert types.count(STARTED) == types.count(CANCELLED) == 1
    await casa.post(thread_id, "hello")
    types = await casa.wait(thread_id, lambda types: types[-1] == COMPLETED)
    assert types.count(STARTED) == 2


async def test_without_any_beat_a_worker_carries_out_what_a_request_left(
    casa: Casa, processes: Processes
) -> None:
    top = await casa.dm()
    await casa.post(top, "hello")
    for _ in range(5):
        new = NewThread(house_id=casa.who.house_id, parent_thread_id=top)
        async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
            below = (await threads.insert(connection, new=new)).id
        await casa.post(below, "@demo hello")
    one_page = {"sweep_batch": 2, "cancel_request_seconds": 0.0}
    async with open_record(casa.record.settings.model_copy(update=one_page)) as record:
        asked = await cancel_many.cancel_thread(record, casa.who, top)
    assert asked.done_at is None
    processes.start_worker(queues="none")
    async with asyncio.timeout(60):
        while asked.done_at is None:
            await asyncio.sleep(0.1)
            asked = await cancel_many.get(casa.record, casa.who, asked.id)
    assert asked.cancelled_count == 6
