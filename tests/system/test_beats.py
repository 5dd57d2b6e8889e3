"""Two beats at once, no beat at all, and a worker that has no slot free."""

import asyncio
import signal
import statistics

from dispatch import payloads
from tests.system import brokers
from tests.system.houses import Casa
from tests.system.processes import Processes

STARTED = "signal.dispatch.started"
COMPLETED = "signal.dispatch.completed"
KEEPER_OFF = {"ARBE_KEEPER_SECONDS": "3600"}
TURNS = 8
TICK_MS = 500
"""What a worker that waits for kombu's next tick waits at least; without, about 15."""


@brokers.on_both
async def test_two_beats_at_once_repair_everything_and_run_nothing_twice(
    casa: Casa, processes: Processes
) -> None:
    lost, broken = await casa.dm(), await casa.dm()
    await casa.post(lost, "mute: 4")
    await brokers.lose_the_hints(casa.record.settings)
    doomed = processes.start_worker(**KEEPER_OFF)
    await casa.post(broken, "mute: 3")
    await casa.wait(broken, lambda types: STARTED in types)
    processes.end(doomed, by=signal.SIGKILL)
    processes.start_worker(**KEEPER_OFF)
    processes.start_beat()
    processes.start_beat()
    await casa.wait(lost, lambda types: COMPLETED in types)
    await casa.wait(broken, lambda types: COMPLETED in types)
    assert (await casa.types(lost)).count(STARTED) == 1
    types = await casa.types(broken)
    assert types.count(STARTED) == 2
    assert types.count("signal.dispatch.run_lost") == 1
    assert types.count("pi.assistant") == types.count(COMPLETED) == 1


async def test_without_any_beat_lost_hints_and_dead_workers_are_found_too(
    casa: Casa, processes: Processes
) -> None:
    lost, broken = await casa.dm(), await casa.dm()
    doomed = processes.start_worker()
    await casa.post(broken, "mute: 3")
    await casa.wait(broken, lambda types: STARTED in types)
    processes.end(doomed, by=signal.SIGKILL)
    await casa.post(lost, "hello")
    await brokers.lose_the_hints(casa.record.settings)
    processes.start_worker()
    await casa.wait(lost, lambda types: COMPLETED in types)
    types = await casa.wait(broken, lambda types: COMPLETED in types)
    assert types.count("pi.assistant") == types.count(COMPLETED) == 1


async def test_a_worker_sweeps_closed_chats_when_the_timetable_says_so(
    casa: Casa, processes: Processes
) -> None:
    chats = casa.record.chats
    for chat_id in ("kept", "over"):
        await chats.create_chat("demo", f"{casa.who.member_id}/{chat_id}")
    await chats.close_chat(f"{casa.who.member_id}/over", ttl_seconds=0)
    processes.start_worker()
    call = ("celery", "-q", "-A", "workers.celery_app", "call", "dispatch.sweep.chats")
    processes.start(*call, "--queue", "arbe.sweeps")
    async with asyncio.timeout(60):
        while await chats.storage.count_closed(max_age_seconds=86_400):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await chats.get_chat(f"{casa.who.member_id}/kept")


async def test_a_saturated_worker_takes_the_next_hint_when_a_turn_ends(
    casa: Casa, processes: Processes
) -> None:
    processes.start_worker(concurrency=1, **KEEPER_OFF)
    threads = [await casa.dm() for _ in range(TURNS)]
    for thread_id in threads:
        await casa.post(thread_id, "mute: 0.02")
    started, ended = [], []
    for thread_id in threads:
        await casa.wait(thread_id, lambda types: COMPLETED in types)
        for entry in await casa.entries(thread_id):
            if isinstance(entry.payload, payloads.Started):
                started.append(entry.at)
            if isinstance(entry.payload, payloads.Completed):
                ended.append(entry.at)
    pauses = [
        next_start - end
        for end, next_start in zip(sorted(ended), sorted(started)[1:], strict=False)
    ]
    assert statistics.median(pauses) < TICK_MS


async def test_a_beat_starts_whatever_a_killed_one_left_in_its_file(
    casa: Casa, processes: Processes
) -> None:
    lost = await casa.dm()
    await casa.post(lost, "hello")
    await brokers.lose_the_hints(casa.record.settings)
    for suffix in ("", ".dat", ".dir", ".bak", ".db"):
        (processes.folder / f"beat-1{suffix}").write_bytes(b"\x80\x05cut off")
    processes.start_worker(**KEEPER_OFF)
    beat = processes.start_beat()
    await casa.wait(lost, lambda types: COMPLETED in types)
    assert beat.poll() is None
