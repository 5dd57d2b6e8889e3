"""Fenced appends against plain XADD, both through our `Connection` (redis-py asyncio).

Same bytes, same fields, same connection, on asyncio's own loop as in a worker.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from dispatch.streams import runs
from dispatch.streams.connection import Connection
from dispatch.streams.runs import Fence
from dispatch.streams.scripts import Scripts
from tests.bench import running
from tests.bench.figures import Goal, Row
from tests.bench.stage import Scale, Stage, System, tell

MAX_STREAM = 10_000_000
BATCH = 32
FLOOR = "plain XADD, same client"


def measure(stage: Stage, scale: Scale) -> list[Row]:
    with stage.system("append") as system:
        return asyncio.run(_measure(system, scale))


async def _measure(system: System, scale: Scale) -> list[Row]:
    connection = Connection(system.settings.stream_url.get_secret_value(), timeout_seconds=20)
    bench = _Bench(connection, system)
    single = Row("append, 1 event", "µs", (Goal("ratio", 1.2),), against=FLOOR)
    redis_py = Row("append, 1 event", "µs", against="redis-py's own client.xadd()")
    batch = Row(
        "append, 32 events in one call",
        "events/s",
        (Goal("ratio", 10, at_least=True),),
        against="ours, 1 event a call",
    )
    piped = Row("append, 32 events in one call", "events/s", against="pipeline of 32 XADD")
    many = {
        tasks: Row(f"append, {tasks} runs at once", "events/s", against=f"{tasks} x {FLOOR}")
        for tasks in (16, 128)
    }
    try:
        await bench.open(max(many))
        await bench.singles(scale.of(200, 5))
        for number in range(scale.rounds):
            tell(f"append: round {number + 1} of {scale.rounds}")
            calls = scale.of(400, 5)
            floor = await bench.singles(calls, fenced=False)
            ours = await bench.singles(calls)
            single.add(ours=ours, floor=floor)
            redis_py.add(ours=ours, floor=await bench.redis_py_singles(calls))
            pipe = await bench.batches(scale.of(60, 2), fenced=False)
            ours_batch = await bench.batches(scale.of(60, 2))
            piped.add(ours=[ours_batch], floor=[pipe])
            batch.add(ours=[ours_batch], floor=[1e6 * len(ours) / sum(ours)])
            for tasks, row in many.items():
                per_task = scale.of(1600, tasks) // tasks
                floor_rate = await bench.at_once(tasks, per_task, fenced=False)
                row.add(ours=[await bench.at_once(tasks, per_task)], floor=[floor_rate])
    finally:
        await connection.close()
        await bench.close()
    return [single, redis_py, batch, piped, *many.values()]


class _Bench:
    """Runs that are open, each with the number of its next event."""

    def __init__(self, connection: Connection, system: System) -> None:
        self._connection = connection
        self._client = Redis.from_url(system.settings.stream_url.get_secret_value())
        self._scripts = Scripts(connection)
        self._settings = system.settings
        self._event = running.chunk()
        self._fences: list[Fence] = []
        self._next: list[int] = []

    async def open(self, count: int) -> None:
        for _ in range(count):
            self._fences.append(await running.open_run(self._scripts, self._settings))
            self._next.append(1)

    async def append(self, run: int, count: int = 1) -> None:
        n = self._next[run]
        self._next[run] += count
        await runs.append(
            self._scripts,
            self._fences[run],
            [self._event] * count,
            n=n,
            max_stream_entries=MAX_STREAM,
        )

    async def add(self, run: int) -> None:
        key = f"floor-{run}"
        await self._connection.call(
            "XADD", key, "*", "p", self._event[1], "w", "0123456789ab:1"
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def redis_py_singles(self, calls: int) -> list[float]:
        fields = {"p": self._event[1], "w": "0123456789ab:1"}
        return [
            1e6 * await _seconds(lambda: self._client.xadd("floor-library", fields))
            for _ in range(calls)
        ]

    async def singles(self, calls: int, *, fenced: bool = True) -> list[float]:
        call = self.append if fenced else self.add
        return [1e6 * await _seconds(lambda: call(0)) for _ in range(calls)]

    async def batches(self, calls: int, *, fenced: bool = True) -> float:
        took = 0.0
        for _ in range(calls):
            took += await _seconds(
                lambda: (
                    self.append(0, BATCH)
                    if fenced
                    else asyncio.gather(*(self.add(0) for _ in range(BATCH)))
                )
            )
        return BATCH * calls / took

    async def at_once(self, tasks: int, per_task: int, *, fenced: bool = True) -> float:
        async def work(run: int) -> None:
            for _ in range(per_task):
                await (self.append(run) if fenced else self.add(run))

        took = await _seconds(lambda: asyncio.gather(*(work(run) for run in range(tasks))))
        return tasks * per_task / took


async def _seconds(call: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began
