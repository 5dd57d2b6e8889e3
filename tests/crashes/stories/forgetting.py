"""A Redis that starts anew, forgets its last moments, or forgets everything."""

from typing import Final

from tests.crashes.play import Play
from tests.crashes.stories.story import Story


async def restarts(play: Play) -> None:
    """Nothing is lost: the run goes on, the entry behind it too."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "say gate say", key="first")
    worker = await play.worker_to_gate()
    await play.post(thread_id, "say", key="second")
    await play.redis_starts_anew()
    await play.let_through(worker)
    await play.workers()


async def flushed_while_running(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "say gate say", key="first")
    worker = await play.worker_to_gate()
    await play.redis_forgets()
    await play.let_through(worker)
    await play.post(thread_id, "say", key="second")
    await play.workers()


async def flushed_at_rest(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "say", key="first")
    await play.workers()
    await play.redis_forgets()
    await play.post(thread_id, "say", key="second")
    await play.workers()


async def rolled_back(play: Play) -> None:
    """The run goes on under a Redis that remembers only that it was queued."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "say gate say", key="first")
    remembered = await play.redis_writes_its_file()
    worker = await play.worker_to_gate()
    await play.redis_forgets(remembered)
    await play.let_through(worker)
    await play.post(thread_id, "say", key="second")
    await play.workers()


async def rolled_back_after_the_end(play: Play) -> None:
    """Redis remembers a run that has ended: it must not be taken up again."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "tool gate say", key="first")
    worker = await play.worker_to_gate()
    remembered = await play.redis_writes_its_file()
    await play.let_through(worker)
    await play.redis_forgets(remembered)
    await play.post(thread_id, "say", key="second")
    await play.workers()


STORIES: Final = (
    Story("Redis starts anew", restarts, {"completed": 2}),
    Story("Redis forgets a running thread", flushed_while_running, {"completed": 1}),
    Story("Redis forgets a thread at rest", flushed_at_rest, {"completed": 1}),
    Story(
        "Redis forgets a claim",
        rolled_back,
        {"failed stream_rollback": 1, "completed": 1},
    ),
    Story(
        "Redis forgets an end",
        rolled_back_after_the_end,
        {"failed stream_rollback": 1, "completed": 1},
    ),
)
