"""As many turns at once as a worker process takes, each waiting for its model.

The model is a real server on loopback that answers nobody until all figures are taken. The
floor is a process that does only the calls, with the same client. A process keeps the memory it
once had, so each round has a new worker and a new floor; both are warmed by one call.
"""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from subprocess import Popen
from typing import Any

import redis

from dispatch.config import Settings
from dispatch.ids import ThreadId
from dispatch.stores.postgres import agents, engine
from dispatch.streams import keys
from tests.bench import asking_model, load, machine
from tests.bench.figures import Row
from tests.bench.hanging_model import Model
from tests.bench.stage import Scale, Stage, System, tell
from tests.bench.wire import post_request
from tests.system.houses import found_casa
from tests.system.processes import SHORT_CLOCKS, wait_until

MAX_ROUNDS = 3
ACCEPTED, STARTED = "chat", "signal.dispatch.started"
ENDED = "signal.dispatch.completed"
BODY = b'{"text":"ping"}'
PATIENCE_SECONDS = 120.0
DEFAULTS = {name: str(getattr(Settings(), name[5:].lower())) for name in SHORT_CLOCKS}
"""Beats and sweeps as often as users have them: they are what a waiting turn costs."""


def measure(stage: Stage, scale: Scale) -> list[Row]:
    count = scale.of(Settings().worker_concurrency, 3)
    calls = f"{count} httpx calls in one process"
    memory = Row(f"{count} turns wait, memory each", "KB", against=calls)
    cpu = Row(f"{count} turns wait, CPU", "ms/s", against="the same worker, idle")
    started = Row(f"{count} posts at once → run started", "ms")
    asked = Row(f"{count} posts at once → model asked", "ms", against=calls)
    with _scene(stage, scale, count) as scene:
        for number in range(min(scale.rounds, MAX_ROUNDS)):
            tell(f"waiting: round {number + 1} of {min(scale.rounds, MAX_ROUNDS)}")
            floor = scene.floor()
            ours, starts = scene.ours()
            memory.add(ours=[ours.kilobytes], floor=[floor.kilobytes])
            cpu.add(ours=[ours.cpu], floor=[ours.idle_cpu])
            started.add(ours=starts)
            asked.add(ours=ours.asked, floor=floor.asked)
    return [memory, cpu, started, asked]


@dataclass(frozen=True)
class _Seen:
    kilobytes: float
    """What each call or turn added to its process."""
    idle_cpu: float
    cpu: float
    asked: list[float]
    """Milliseconds from the first post until the model had each call."""


@contextmanager
def _scene(stage: Stage, scale: Scale, count: int) -> Iterator["_Scene"]:
    with stage.system("waiting") as system:
        url = system.settings.stream_url.get_secret_value()
        port = system.start_floor("hanging_model").port
        with closing(Model(port)) as model, redis.Redis.from_url(url) as streams:
            yield _Scene(
                system,
                count=count,
                window_seconds=scale.of(10, 1),
                model=model,
                streams=streams,
            )


class _Scene:
    """An API and a model; `floor` and `ours` each start a process and end it."""

    def __init__(
        self,
        system: System,
        *,
        count: int,
        window_seconds: float,
        model: Model,
        streams: "redis.Redis",
    ) -> None:
        self._system = system
        self._count = count
        self._window_seconds = window_seconds
        self._streams = streams
        self._api = system.start_api()
        self._model = model
        self._environment = {asking_model.URL_NAME: model.url, **DEFAULTS}

    def floor(self) -> _Seen:
        process = self._system.processes.start(
            "tests.bench.asking_model", str(self._count), **self._environment
        )
        machine.pin(process.pid, self._system.stage.core)
        self._until_asked(1)
        seen = self._seen(process, self._model.answer)
        process.wait(PATIENCE_SECONDS)
        return seen

    def ours(self) -> tuple[_Seen, list[float]]:
        """Return also each run's milliseconds from its entry to its start, by Redis's clock."""
        process = self._system.processes.start_worker(
            concurrency=self._count, **self._environment
        )
        machine.pin(process.pid, self._system.stage.core)
        token, thread_ids = asyncio.run(self._threads())
        requests = [
            post_request(f"/v1/threads/{each}/entries", token=token, body=BODY)
            for each in thread_ids
        ]
        load.rate(self._api.port, requests[:1], connections=1)
        self._until_asked(1)
        self._model.answer()
        self._until_ended(thread_ids[:1])

        def post() -> None:
            load.rate(self._api.port, requests[1:], connections=self._count)

        seen = self._seen(process, post)
        self._until_ended(thread_ids[1:])
        self._system.processes.end(process, by=signal.SIGTERM)
        return seen, [self._took(each) for each in thread_ids[1:]]

    def _seen(self, process: Popen[bytes], begin: Callable[[], None]) -> _Seen:
        before, idle_cpu = machine.resident_kilobytes(process.pid), self._cpu(process)
        began = time.monotonic()
        begin()
        asked_at = self._until_asked(self._count)
        cpu, after = self._cpu(process), machine.resident_kilobytes(process.pid)
        self._model.answer()
        asked = [1e3 * (at - began) for at in asked_at]
        return _Seen((after - before) / self._count, idle_cpu, cpu, asked)

    def _cpu(self, process: Popen[bytes]) -> float:
        """Return milliseconds of CPU per second."""
        before = machine.cpu_seconds(process.pid)
        time.sleep(self._window_seconds)
        return 1e3 * (machine.cpu_seconds(process.pid) - before) / self._window_seconds

    async def _threads(self) -> tuple[str, list[ThreadId]]:
        async with found_casa(self._system.settings) as casa:
            async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
                agent = await agents.insert(
                    connection,
                    house_id=casa.who.house_id,
                    handle="patient",
                    runner="python",
                    config={"callable": "tests.bench.asking_model:agent"},
                )
            casa.agent = agent
            return casa.token, [await casa.dm() for _ in range(1 + self._count)]

    def _until_asked(self, count: int) -> list[float]:
        wait_until(
            lambda: len(self._model.asked_at()) == count, timeout_seconds=PATIENCE_SECONDS
        )
        return self._model.asked_at()

    def _until_ended(self, thread_ids: Sequence[ThreadId]) -> None:
        wait_until(
            lambda: all(ENDED in self._moments(each) for each in thread_ids),
            timeout_seconds=PATIENCE_SECONDS,
        )

    def _took(self, thread_id: ThreadId) -> float:
        moments = self._moments(thread_id)
        return moments[STARTED] - moments[ACCEPTED]

    def _moments(self, thread_id: ThreadId) -> dict[str, int]:
        """Return the types that stand on a stream, each with Redis's milliseconds."""
        entries: Any = self._streams.xrange(keys.stream(thread_id))
        return {
            json.loads(fields[b"p"])["type"]: int(redis_id.split(b"-")[0])
            for redis_id, fields in entries
        }
