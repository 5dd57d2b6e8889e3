"""Turns on real worker processes, and what is left when those die."""

import signal

from dispatch import payloads
from dispatch.operations import delete_thread
from tests.system import brokers
from tests.system.houses import Casa
from tests.system.processes import Processes

STARTED = "signal.dispatch.started"
COMPLETED = "signal.dispatch.completed"
ORPHANED = "signal.thread.pi_session_orphaned"


@brokers.on_both
async def test_an_entry_becomes_a_turn_on_the_stream(casa: Casa, processes: Processes) -> None:
    processes.start_worker()
    thread_id = await casa.dm()
    accepted = await casa.post(thread_id, "run: echo from the sandbox")
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    found = await casa.entries(thread_id)
    assert any(b"from the sandbox" in e.raw for e in found if b"pi.tool_result" in e.raw)
    assert not [e for e in found if payloads.type_of(e.payload) == "pi.chunk"]
    row = await casa.wait_status(thread_id, "open")
    assert row.usage.total_tokens > 0
    again = await casa.post(thread_id, "run: echo from the sandbox", key="k")
    assert again.entry_id > accepted.entry_id


@brokers.on_both
async def test_a_killed_worker_leaves_a_failed_thread_that_says_why(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker()
    thread_id = await casa.dm()
    await casa.post(thread_id, "sleep: 600")
    await casa.wait(thread_id, lambda types: STARTED in types)
    # The first words of `sleep` are visible: this run may not be repeated.
    await casa.wait_words(thread_id)
    processes.end(worker, by=signal.SIGKILL)
    processes.start_worker()
    processes.start_beat()
    types = await casa.wait(thread_id, lambda types: ORPHANED in types)
    assert types[-2:] == ["signal.dispatch.failed", ORPHANED]
    await casa.wait_status(thread_id, "failed")
    await casa.post(thread_id, "hello")
    types = await casa.wait(thread_id, lambda types: types[-1] == COMPLETED)
    assert types.count(STARTED) == 2
    await casa.wait_status(thread_id, "open")


async def test_a_run_that_died_before_any_effect_is_tried_again(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker()
    thread_id = await casa.dm()
    await casa.post(thread_id, "mute: 3")
    await casa.wait(thread_id, lambda types: STARTED in types)
    processes.end(worker, by=signal.SIGKILL)
    processes.start_worker()
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count("signal.dispatch.run_lost") == 1
    assert types.count(STARTED) == 2
    assert types.count("pi.assistant") == 1


@brokers.on_both
async def test_a_turn_runs_though_the_broker_lost_its_message(
    casa: Casa, processes: Processes
) -> None:
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    await brokers.lose_the_hints(casa.record.settings)
    processes.start_worker()
    await casa.wait(thread_id, lambda types: COMPLETED in types)


async def test_deleting_a_running_thread_leaves_no_key_but_a_tombstone(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker()
    thread_id, other_id = await casa.dm(), await casa.dm()
    await casa.post(thread_id, "sleep: 600")
    await casa.wait(thread_id, lambda types: STARTED in types)
    assert await delete_thread.delete_thread(casa.record, casa.who, thread_id) == 1
    assert await delete_thread.delete_thread(casa.record, casa.who, thread_id) == 0
    # Another turn after the next heartbeat of the deleted run: its last chance to write.
    await casa.post(other_id, "mute: 2")
    await casa.wait(other_id, lambda types: COMPLETED in types)
    keys = await casa.record.connection.call("KEYS", f"*{thread_id}*")
    assert keys == [f"{{arbe-thread-{thread_id}}}:state".encode()]
    assert await casa.record.connection.call("TTL", keys[0]) > 0
    due = await casa.record.connection.call("ZRANGE", "arbe:due", 0, -1)
    assert not [each for each in due if str(thread_id).encode() in each]
    assert processes.end(worker, by=signal.SIGTERM) == 0


@brokers.on_both
async def test_a_drained_worker_gives_back_what_it_did_not_touch(
    casa: Casa, processes: Processes
) -> None:
    worker = processes.start_worker()
    untouched, touched = await casa.dm(), await casa.dm()
    await casa.post(untouched, "mute: 4")
    await casa.post(touched, "sleep: 600")
    await casa.wait(untouched, lambda types: STARTED in types)
    await casa.wait(touched, lambda types: STARTED in types)
    await casa.wait_words(touched)
    assert processes.end(worker, by=signal.SIGTERM) == 0
    assert (await casa.types(untouched))[-1] == "signal.dispatch.released"
    assert (await casa.types(touched))[-1] == "signal.dispatch.failed"
    processes.start_worker()
    types = await casa.wait(untouched, lambda types: COMPLETED in types)
    assert types.count(STARTED) == 2
    attempts = [
        e.payload.attempt
        for e in await casa.entries(untouched)
        if isinstance(e.payload, payloads.Started)
    ]
    assert attempts == [1, 1]
    await casa.wait_status(touched, "open")
