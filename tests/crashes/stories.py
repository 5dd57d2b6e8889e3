"""The stories: straight ways through the product, acted with every death in every place."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from dispatch.ids import ThreadId
from dispatch.operations import create_thread, delete_thread, dispatches
from dispatch.operations.create_thread import CreatedThread, ThreadDraft
from dispatch.streams.threads import Accepted
from tests.crashes.play import NOBODY, Play, new_key

TOOL: Final = "chunk tool beat say"


@dataclass(frozen=True)
class Story:
    """What happens, and how the dispatches end when nobody dies."""

    name: str
    tell: Callable[[Play], Awaitable[None]]
    ends: dict[str, int]
    insists: bool = True
    """False: a client whose request died goes away."""


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


async def created(play: Play) -> None:
    """Create with a key and a first message; a repeat converges on one thread, one entry."""
    name = new_key()
    draft = ThreadDraft(parent=f"@{play.world.agents[0].handle}", key=name, message=TOOL)
    who = play.world.who
    play.posted["first"] = False
    made = await play.client(
        lambda record: create_thread.create_thread(record, who, draft, entry_key="first")
    )
    if isinstance(made, CreatedThread):
        play.threads.append(made.thread.id)
        play.posted["first"] = True

    async def is_one() -> None:
        found = await play.world.admin.execute(
            "select count(*) from threads where key = %s", [name]
        )
        assert await found.fetchone() == (1,), "one thread per key"

    play.checks.append(is_one)
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


async def cancel_queued(play: Play) -> None:
    thread_id = await play.open_thread()
    accepted = await play.post(thread_id, TOOL, key="first")
    await cancel(play, thread_id, accepted)
    await play.workers()


async def cancel_running(play: Play) -> None:
    thread_id = await play.open_thread()
    accepted = await play.post(thread_id, "say gate say say", key="first")
    worker = await play.worker_to_gate()
    await cancel(play, thread_id, accepted)
    await play.let_through(worker)
    await play.workers()


async def cancel_deaf(play: Play) -> None:
    """The agent hears nothing, so the record ends its run after the grace."""
    thread_id = await play.open_thread()
    accepted = await play.post(thread_id, "say gate", key="first")
    await play.worker_to_gate()
    await cancel(play, thread_id, accepted)
    await play.pass_seconds(play.world.settings.cancel_grace_seconds + 1)
    await play.keeper()


async def drained_untouched(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "gate say", key="first")
    await play.drain(await play.worker_to_gate())
    await play.workers()


async def drained_with_effects(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "say gate say", key="first")
    await play.post(thread_id, "say", key="second")
    await play.drain(await play.worker_to_gate())
    await play.workers()


async def deleted_while_running(play: Play) -> None:
    thread_id = await play.open_thread()
    child_id = await play.open_child(thread_id)
    await play.post(thread_id, "say", key="first")
    await play.post(child_id, "say gate say", key="second", mentions=("two",))
    worker = await play.worker_to_gate()
    await delete(play, thread_id, child_id)
    await play.let_through(worker)
    await play.workers()


async def cancel(play: Play, thread_id: ThreadId, accepted: Any) -> None:
    """Ask for the end of an accepted entry's dispatch."""
    if isinstance(accepted, Accepted):
        dispatch_id, who = accepted.dispatches[0][0], play.world.who
        await play.client(lambda record: dispatches.cancel(record, who, thread_id, dispatch_id))


async def delete(play: Play, *thread_ids: ThreadId) -> None:
    """Delete the first thread, and so those below it."""
    play.maybe_deleted.update(thread_ids)
    who = play.world.who
    heard = await play.client(
        lambda record: delete_thread.delete_thread(record, who, thread_ids[0])
    )
    if heard is not NOBODY:
        play.deleted.update(thread_ids)


STORIES: Final = (
    Story("turn", turn, {"completed": 1}),
    Story("turn, poster goes away", turn, {"completed": 1}, insists=False),
    Story("one turn after the other", one_after_the_other, {"completed": 2}),
    Story("first entry of a thread never opened", unopened, {"completed": 1}),
    Story("thread with key and message", created, {"completed": 1}),
    Story("two agents", two_agents, {"completed": 2}),
    Story("queue behind a failure", queue, {"failed agent_error": 1, "completed": 1}),
    Story("agent's error", error_without_a_word, {"failed agent_error": 1}),
    Story("cancel before the start", cancel_queued, {"cancelled before_start": 1}),
    Story("cancel of a running turn", cancel_running, {"cancelled requested": 1}),
    Story("cancel of a deaf turn", cancel_deaf, {"cancelled cancel_grace": 1}),
    Story("drain of an untouched turn", drained_untouched, {"completed": 1}),
    Story(
        "drain of a turn with effects",
        drained_with_effects,
        {"failed interrupted": 1, "completed": 1},
    ),
    Story("delete while running", deleted_while_running, {}),
    Story("delete, caller goes away", deleted_while_running, {}, insists=False),
)
