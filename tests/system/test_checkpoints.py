"""Turns that outlive their worker, on real processes."""

import signal

from dispatch import payloads
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import RunLost, Started
from tests.system import brokers
from tests.system.houses import Casa
from tests.system.processes import Processes

COMPLETED = "signal.dispatch.completed"
RELEASED = "signal.dispatch.released"
CHECKPOINT = "signal.dispatch.checkpoint"


async def said(casa: Casa, thread_id) -> list[str]:
    found = [entry.payload for entry in await casa.entries(thread_id)]
    return [each.message["content"][0]["text"] for each in found if isinstance(each, Assistant)]


async def of(casa: Casa, thread_id, kind: type) -> list:
    found = [entry.payload for entry in await casa.entries(thread_id)]
    return [payload for payload in found if isinstance(payload, kind)]


async def test_a_killed_workers_turn_goes_on_from_its_checkpoint(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker()
    thread_id = await casa.dm()
    await casa.post(thread_id, "steps: 6 0.4")
    await casa.wait(thread_id, lambda types: types.count(CHECKPOINT) >= 2)
    processes.end(worker, by=signal.SIGKILL)
    processes.start_worker()
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert await said(casa, thread_id) == [f"Step {step} of 6." for step in range(1, 7)]
    first, second = await of(casa, thread_id, Started)
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.checkpoint_id is not None
    (lost,) = await of(casa, thread_id, RunLost)
    assert not lost.effects


@brokers.on_both
async def test_a_drained_workers_turn_goes_on_from_its_checkpoint(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker()
    thread_id = await casa.dm()
    await casa.post(thread_id, "steps: 5 0.4")
    await casa.wait(thread_id, lambda types: CHECKPOINT in types)
    other = processes.start_worker()
    assert processes.end(worker, by=signal.SIGTERM) == 0
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert RELEASED in types
    assert await said(casa, thread_id) == [f"Step {step} of 5." for step in range(1, 6)]
    assert [each.attempt for each in await of(casa, thread_id, Started)] == [1, 1]
    assert processes.end(other, by=signal.SIGTERM) == 0


async def test_a_turn_takes_in_what_steers_it_and_the_rest_falls_through(
    casa: Casa, processes: Processes
) -> None:
    processes.start_worker()
    thread_id = await casa.dm()
    await casa.post(thread_id, "steps: 3 0.5")
    await casa.wait(thread_id, lambda types: CHECKPOINT in types)
    steered = await casa.post(thread_id, "turn left", when_busy="steer")
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert "signal.dispatch.steered" in types
    assert "You steered me: “turn left”." in " ".join(await said(casa, thread_id))
    (receipt,) = await of(casa, thread_id, payloads.Steered)
    assert receipt.dispatch_id == steered.dispatches[0][0]
    assert receipt.step > 1
