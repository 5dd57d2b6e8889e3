"""Followers: 1,000 over SSE on 200 threads, served by one process while events are appended.

The server is alone on its core, everything else shares the other one; what counts is the CPU
the server used. The floor is a bare asyncio.Protocol that hears the same channels and writes
the same frames. Every event carries the moment it was sent, so followers know how old it is.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from dispatch.config import Settings
from dispatch.ids import ThreadId
from dispatch.streams import runs
from dispatch.streams.connection import Connection
from dispatch.streams.runs import Fence
from dispatch.streams.scripts import Scripts
from tests.bench import running
from tests.bench.figures import Goal, Row
from tests.bench.stage import Scale, Served, Stage, System, tell
from tests.bench.wire import HOST, follow_request
from tests.system.houses import found_casa

BURST_SECONDS = 0.01
PATIENCE_SECONDS = 20.0
CONNECTING = 50
"""Followers that arrive at once."""
MAX_STREAM = 10_000_000
MAX_ROUNDS = 3
MARK = re.compile(rb"@(\d+)@")
WHERE = "server alone, rest on the other"
FLOOR = "bare asyncio.Protocol"


@dataclass(frozen=True)
class Load:
    """How many follow what, and how much is appended."""

    followers: int
    threads: int
    events_per_second: int
    seconds: float

    @property
    def deliveries(self) -> int:
        return self.bursts * self.per_burst * self.followers // self.threads

    @property
    def per_burst(self) -> int:
        return max(1, round(self.events_per_second * BURST_SECONDS))

    @property
    def bursts(self) -> int:
        return round(self.seconds / BURST_SECONDS)


def measure(stage: Stage, scale: Scale) -> list[Row]:
    load = Load(1_000, 200, 1_000, 8.0)
    if scale.quick:
        load = Load(20, 4, 200, 0.2)
    with stage.system("followers") as system:
        return uvloop.run(_measure(system, scale, load))


async def _measure(system: System, scale: Scale, load: Load) -> list[Row]:
    what = f"{load.followers:,} followers of {load.threads} threads"
    cpu = Row(f"{what}, CPU", "ms/s", (Goal("ratio", 2.0),), WHERE, FLOOR)
    age = Row(f"{what}, delivery", "ms", (), WHERE, FLOOR)
    lost = Row(f"{what}, events missing", "", (Goal("p50", 0.0),), WHERE)
    url, core = system.settings.stream_url.get_secret_value(), system.stage.other_core
    ours = system.start_api(core=core)
    floor = system.start_floor("floor_followers", url, core=core)
    connection = Connection(url, timeout_seconds=20)
    try:
        async with found_casa(system.settings) as casa:
            thread_ids = [await casa.dm() for _ in range(load.threads)]
            token = casa.token
        writer = _Writer(connection, system.settings)
        await writer.open(thread_ids)
        for number in range(min(scale.rounds, MAX_ROUNDS)):
            tell(f"followers: round {number + 1} of {min(scale.rounds, MAX_ROUNDS)}")
            bare = await _round(floor, load, writer, token)
            real = await _round(ours, load, writer, token)
            cpu.add(ours=[real.cpu_ms_per_second], floor=[bare.cpu_ms_per_second])
            age.add(ours=real.ages_ms, floor=bare.ages_ms)
            lost.add(ours=[load.deliveries - len(real.ages_ms)])
    finally:
        await connection.close()
    lost.note = f"of {load.deliveries:,} a round; followers that are cut off do not come back"
    return [cpu, age, lost]


@dataclass
class _Seen:
    """What one round's followers received, and what it cost the server."""

    ages_ms: list[float] = field(default_factory=list)
    cpu_ms_per_second: float = 0.0


async def _round(server: Served, load: Load, writer: "_Writer", token: str) -> _Seen:
    loop = asyncio.get_running_loop()
    seen = _Seen()
    clients = [
        _Follower(writer.thread_ids[n % load.threads], token, seen)
        for n in range(load.followers)
    ]
    for start in range(0, load.followers, CONNECTING):
        arriving = clients[start : start + CONNECTING]
        for client in arriving:
            await loop.create_connection(lambda client=client: client, HOST, server.port)
        await asyncio.gather(*(client.ready for client in arriving))
    began, used = time.perf_counter(), server.cpu_seconds
    await writer.write(load)
    await _until_quiet(seen, load.deliveries)
    took = time.perf_counter() - began
    # A little work of the server ends after the last byte is here; ticks are 10 ms anyway.
    seen.cpu_ms_per_second = max(1.0, 1e3 * (server.cpu_seconds - used) / took)
    for client in clients:
        client.close()
    return seen


async def _until_quiet(seen: _Seen, deliveries: int) -> None:
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while len(seen.ages_ms) < deliveries:
        await asyncio.sleep(0.05)
        if time.perf_counter() > deadline:
            break


class _Writer:
    """One run on each thread, appending events at a steady rate."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._scripts = Scripts(connection)
        self._settings = settings
        self._fences: list[Fence] = []
        self._next: list[int] = []
        self._turn = 0

    @property
    def thread_ids(self) -> Sequence[ThreadId]:
        return [fence.thread_id for fence in self._fences]

    async def open(self, thread_ids: Sequence[ThreadId]) -> None:
        for thread_id in thread_ids:
            fence = await running.open_run(self._scripts, self._settings, thread_id=thread_id)
            self._fences.append(fence)
            self._next.append(1)

    async def write(self, load: Load) -> None:
        """Append bursts, each on time whatever the one before took."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as writes:
            for number in range(load.bursts):
                for _ in range(load.per_burst):
                    writes.create_task(self._append())
                wait = began + (number + 1) * BURST_SECONDS - time.perf_counter()
                await asyncio.sleep(max(0.0, wait))

    async def _append(self) -> None:
        run = self._turn
        self._turn = (run + 1) % len(self._fences)
        n = self._next[run]
        self._next[run] += 1
        event = running.chunk(f"@{time.perf_counter_ns()}@")
        await runs.append(
            self._scripts, self._fences[run], [event], n=n, max_stream_entries=MAX_STREAM
        )


class _Follower(asyncio.Protocol):
    """Counts the events it gets and takes their ages."""

    def __init__(self, thread_id: ThreadId, token: str, seen: _Seen) -> None:
        path = f"/v1/threads/{thread_id}/stream?live=sse&offset=now"
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = follow_request(path, token=token)
        self._seen = seen
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            if data.startswith(b"HTTP/1.1 200"):
                self.ready.set_result(None)
            else:
                self.ready.set_exception(RuntimeError(data.decode(errors="replace")))
        now = time.perf_counter_ns()
        text, end = self._rest + data, 0
        for found in MARK.finditer(text):
            self._seen.ages_ms.append((now - int(found[1])) / 1e6)
            end = found.end()
        self._rest = text[end:]

    def close(self) -> None:
        self._transport.close()
