"""A world whose processes die: a Redis and a database of its own, on a loop of its own."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import structlog

from dispatch.embedded.redis import Redis
from tests.conftest import running
from tests.crashes.campaign import Result, Task, act
from tests.crashes.world import World, open_world

Acting = Callable[[Task], Result]


@pytest.fixture(scope="module")
def stage(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.Runner, World]]:
    """Redis is flushed before each play, so it is nobody else's."""
    folder = tmp_path_factory.mktemp("crashes")

    async def opened(stack: AsyncExitStack) -> World:
        server = running(Redis(folder), folder / "log")
        stream_url = await stack.enter_async_context(server)
        return await stack.enter_async_context(
            open_world(postgres_url, stream_url, database="crashes")
        )

    # A log line for each of some ten thousand steps is read by nobody.
    talkative = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        world = runner.run(opened(stack))
        yield runner, world
        runner.run(stack.aclose())
    structlog.configure(**talkative)


@pytest.fixture(scope="module")
def acting(stage: tuple[asyncio.Runner, World]) -> Acting:
    """Act a play; one in which nobody dies is acted once."""
    runner, world = stage
    calm: dict[Task, Result] = {}

    def acted(task: Task) -> Result:
        if task in calm:
            return calm[task]
        result = runner.run(act(world, task))
        if not task.faults:
            calm[task] = result
        return result

    return acted


@pytest.fixture
def breaking(stage: tuple[asyncio.Runner, World]) -> Iterator[Callable[..., Any]]:
    """Hold the product broken until the test ends."""
    runner, world = stage
    stack = AsyncExitStack()

    async def enter(broken: Callable[[World], Any]) -> None:
        await stack.enter_async_context(broken(world))

    yield lambda broken: runner.run(enter(broken))
    runner.run(stack.aclose())
