"""Acts plays in several processes at once, each with a database and a Redis of its own."""

import asyncio
import gc
import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import uvloop

from dispatch import log
from tests.crashes.campaign import Result, Task, act
from tests.crashes.world import World, open_world

_AT_ONCE: Final = 20
"""Plays handed over together: an answer costs little beside them."""


class Crew:
    """Processes that act what they are given."""

    def __init__(self, pool: ProcessPoolExecutor, jobs: int) -> None:
        self._pool = pool
        self._jobs = jobs

    def act(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield what became of each play, in order; stop asking, and no more are begun."""
        left = iter(tasks)
        under_way: deque[Future[list[Result]]] = deque()
        try:
            while True:
                while len(under_way) < 2 * self._jobs and (
                    some := list(islice(left, _AT_ONCE))
                ):
                    under_way.append(self._pool.submit(_act_all, some))
                if not under_way:
                    return
                yield from under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


@contextmanager
def open_crew(postgres_url: str, stream_url: str, *, jobs: int) -> Iterator[Crew]:
    """Start the processes; they are gone when this ends."""
    processes = multiprocessing.get_context("spawn")
    numbers = processes.Queue()
    for number in range(jobs):
        numbers.put(number)
    with ProcessPoolExecutor(
        jobs,
        mp_context=processes,
        initializer=_begin,
        initargs=(postgres_url, stream_url, numbers),
    ) as pool:
        yield Crew(pool, jobs)


class _Stage:
    """What one process keeps between plays."""

    runner: asyncio.Runner
    world: World
    opened: AbstractAsyncContextManager[World]


def _begin(postgres_url: str, stream_url: str, numbers: Any) -> None:
    log.configure(level="CRITICAL", as_json=False, process="crashes")
    number = numbers.get()
    mine = urlunsplit(urlsplit(stream_url)._replace(path=f"/{number}"))
    gc.set_threshold(100_000, 50, 100)  # a play leaves little that is not freed at once
    _Stage.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    _Stage.opened = open_world(postgres_url, mine, database=f"crashes_{number}")
    _Stage.world = _Stage.runner.run(_Stage.opened.__aenter__())


def _act_all(tasks: list[Task]) -> list[Result]:
    return [_Stage.runner.run(act(_Stage.world, task)) for task in tasks]
