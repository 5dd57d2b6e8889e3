"""Turns: an entry is posted, an agent answers."""

from typing import Final

from tests.crashes.play import Play
from tests.crashes.stories.story import Story
from workers.sweeps import cancellations, prune, reconcile, redeliver

TOOL: Final = "chunk tool beat say"


async def turn(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, TOOL, key="first")
    await play.workers()


async def one_after_the_other(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "say", key="first")
    await play.workers()
    await play.post(thread_id, "say", key="second")
    await play.workers()


async def unopened(play: Play) -> None:
    """The thread's maker died before its stream was opened."""
    thread_id = await play.open_thread(stream=False)
    await play.post(thread_id, "say", key="first")
    await play.workers()


async def two_agents(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "tool", key="first", mentions=("two",))
    await play.workers()


async def queue(play: Play) -> None:
    """The queue goes on after a failed run."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "fail", key="first")
    await play.post(thread_id, "say", key="second")
    await play.workers()


async def error_without_a_word(play: Play) -> None:
    """Such a turn is tried again, as often as its agent says."""
    child_id = await play.open_child(await play.open_thread())
    await play.post(child_id, "crash", key="first", mentions=("two",))
    await play.workers()


async def checkpoints(play: Play) -> None:
    """What was done before a checkpoint is not done again, what comes after it is."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "tool mark tool mark say", key="first")
    await play.workers()


async def repeatable(play: Play) -> None:
    """The agent says that its turns may be done again."""
    child_id = await play.open_child(await play.open_thread())
    play.may_repeat = True
    await play.post(child_id, "tool say", key="first", mentions=("three",))
    await play.workers()


async def swept(play: Play) -> None:
    """Every sweep comes by in the middle of a turn, and finds nothing to do."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "say gate say", key="first")
    worker = await play.worker_to_gate()
    await play.keeper(redeliver, reconcile, cancellations, prune)
    await play.let_through(worker)
    await play.workers()


STORIES: Final = (
    Story("turn", turn, {"completed": 1}),
    Story("one turn after the other", one_after_the_other, {"completed": 2}),
    Story("first entry of a thread never opened", unopened, {"completed": 1}),
    Story("two agents", two_agents, {"completed": 2}),
    Story("queue behind a failure", queue, {"failed agent_error": 1, "completed": 1}),
    Story("agent's error", error_without_a_word, {"failed agent_error": 1}),
    Story("turn with checkpoints", checkpoints, {"completed": 1}),
    Story("turn with sweeps in it", swept, {"completed": 1}),
    Story("turn that may be repeated", repeatable, {"completed": 1}),
)
