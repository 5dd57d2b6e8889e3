"""Workers are replaced one after the other while entries come in: nobody notices."""

import asyncio
import contextlib
import itertools
import signal
import subprocess
from collections.abc import AsyncIterator

from dispatch.ids import ThreadId
from tests.system import brokers, histories
from tests.system.houses import Casa
from tests.system.processes import Processes, wait_until

WORKERS = 3
ROUNDS = 2
THREADS = 12
PAUSE_SECONDS = 0.15
"""Between two entries: about seven turns begin each second."""
TEXTS = ("hello", "mute: 0.5", "sleep: 0.5", "hello again", "mute: 5", "sleep: 4")
SETTLED_SECONDS = 90.0
PATIENT = {
    "ARBE_WORKER_DEAD_SECONDS": "15",
    "ARBE_LEASE_SECONDS": "60",
    "ARBE_CANCEL_GRACE_SECONDS": "10",
}
"""Nobody dies here: on a busy machine nobody is taken for dead either."""


def start(processes: Processes) -> "subprocess.Popen[bytes]":
    """Start a worker; return when it consumes."""
    log = processes.folder / "log"
    before = log.read_text(errors="replace").count("worker.ready") if log.exists() else 0
    worker = processes.start_worker(**PATIENT)
    wait_until(lambda: log.read_text(errors="replace").count("worker.ready") > before)
    return worker


@contextlib.asynccontextmanager
async def load(casa: Casa, threads: list[ThreadId]) -> AsyncIterator[dict[ThreadId, int]]:
    """Post mixed entries for the length of a block; count what was accepted, by thread."""
    accepted = dict.fromkeys(threads, 0)
    enough = asyncio.Event()

    async def post() -> None:
        for number, text in enumerate(itertools.cycle(TEXTS)):
            if enough.is_set():
                return
            # One further each time round, so that every thread gets every text.
            thread_id = threads[(number + number // len(threads)) % len(threads)]
            await casa.post(thread_id, text)
            accepted[thread_id] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    posting = asyncio.create_task(post())
    try:
        yield accepted
    finally:
        enough.set()
        await posting


@brokers.on_both
async def test_a_rolling_restart_under_load_loses_and_doubles_nothing(
    casa: Casa, processes: Processes
) -> None:
    workers = [await asyncio.to_thread(start, processes) for _ in range(WORKERS)]
    processes.start_beat(**PATIENT)
    threads = [await casa.dm() for _ in range(THREADS)]
    codes = []
    async with load(casa, threads) as accepted:
        for _ in range(ROUNDS * WORKERS):
            old = workers.pop(0)
            codes.append(await asyncio.to_thread(processes.end, old, by=signal.SIGTERM))
            workers.append(await asyncio.to_thread(start, processes))
    assert codes == [0] * ROUNDS * WORKERS
    found = []
    for thread_id in threads:
        await casa.wait(
            thread_id,
            lambda types: types.count("chat") == len(ended(types)),
            timeout_seconds=SETTLED_SECONDS,
        )
        dispatches = histories.of(await casa.entries(thread_id))
        assert len(dispatches) == accepted[thread_id]
        found += dispatches.values()
        await casa.wait_status(thread_id, "open")
    assert set(histories.endings(found)) <= {"completed", "failed interrupted"}
    assert all(each.answers == 1 for each in found if each.terminals == ["completed"])
    assert all(each.lost == 0 and set(each.attempts) == {1} for each in found)
    assert any(each.released for each in found)


def ended(types: list[str]) -> list[str]:
    return [each for each in types if each.endswith((".completed", ".failed", ".cancelled"))]
