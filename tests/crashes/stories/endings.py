"""Turns that are ended from outside: cancelled, drained, without progress, deleted."""

from typing import Any, Final

from dispatch.ids import ThreadId
from dispatch.operations import cancel_many, delete_thread
from dispatch.operations.create_thread import ThreadDraft, create_thread
from dispatch.streams.threads import Accepted
from tests.crashes.play import NOBODY, Play, new_key
from tests.crashes.stories.story import Story
from tests.crashes.stories.turns import TOOL


async def cancel_queued(play: Play) -> None:
    """In a sub-job, whose row shows how its last dispatch ended."""
    child_id = await play.open_child(await play.open_thread())
    accepted = await play.post(child_id, TOOL, key="first", mentions=("one",))
    await _cancel(play, child_id, accepted)
    await play.workers()


async def cancel_running(play: Play) -> None:
    thread_id = await play.open_thread()
    accepted = await play.post(thread_id, "say gate say say", key="first")
    worker = await play.worker_to_gate()
    await _cancel(play, thread_id, accepted)
    await play.let_through(worker)
    await play.workers()


async def cancel_deaf(play: Play) -> None:
    """The agent hears nothing, so the record ends its run after the grace."""
    thread_id = await play.open_thread()
    accepted = await play.post(thread_id, "say gate", key="first")
    await play.worker_to_gate()
    await _cancel(play, thread_id, accepted)
    await play.pass_seconds(play.world.settings.cancel_grace_seconds + 1)
    await play.keeper()


async def cancel_with_work(play: Play) -> None:
    """A sub-job that works for the dispatch ends with it."""
    thread_id = await play.open_thread()
    accepted = await play.post(thread_id, "say gate say", key="first")
    worker = await play.worker_to_gate()
    if isinstance(accepted, Accepted):
        dispatch_id, who = accepted.dispatches[0][0], play.world.who
        draft = ThreadDraft(
            parent=str(thread_id),
            parent_dispatch_id=dispatch_id,
            key=new_key(),
            message="@two say",
        )
        play.posted["second"] = False
        await play.client(lambda record: create_thread(record, who, draft, entry_key="second"))
    await _cancel(play, thread_id, accepted)
    await play.let_through(worker)
    await play.workers()


async def cancel_under_a_call(play: Play) -> None:
    """The same, and the sub-job is made by HTTP."""
    thread_id = await play.open_thread()
    accepted = await play.post(thread_id, "say gate say", key="first")
    worker = await play.worker_to_gate()
    if isinstance(accepted, Accepted):
        await play.post_thread_over_http(
            parent=str(thread_id),
            parentDispatchId=accepted.dispatches[0][0],
            message="@two say",
        )
    await _cancel(play, thread_id, accepted)
    await play.let_through(worker)
    await play.workers()


async def cancel_thread(play: Play) -> None:
    """All of a thread: a running turn, one behind it, and one below."""
    thread_id = await play.open_thread()
    child_id = await play.open_child(thread_id)
    await play.post(thread_id, "say gate say", key="first")
    worker = await play.worker_to_gate()
    await play.post(thread_id, "tool", key="second")
    await play.post(child_id, "tool", key="third", mentions=("two",))
    who = play.world.who
    await play.client(lambda record: cancel_many.cancel_thread(record, who, thread_id))
    await play.let_through(worker)
    await play.workers()


async def no_progress(play: Play) -> None:
    """The process lives and its agent is mute: warned, asked to end, then ended."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "say gate say", key="first")
    worker = await play.worker_to_gate()
    settings = play.world.settings
    for limit in (settings.progress_warn_seconds, settings.progress_timeout_seconds):
        await play.pass_seconds(limit + 1)
        await play.beat(worker)
        await play.keeper()
    await play.let_through(worker)
    await play.workers()


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


async def drained_at_checkpoint(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "tool mark gate say", key="first")
    await play.drain(await play.worker_to_gate())
    await play.workers()


async def deleted_while_running(play: Play) -> None:
    thread_id = await play.open_thread()
    child_id = await play.open_child(thread_id)
    await play.post(thread_id, "say", key="first")
    await play.post(child_id, "say gate say", key="second", mentions=("two",))
    worker = await play.worker_to_gate()
    await _delete(play, thread_id, child_id)
    await play.let_through(worker)
    await play.workers()


async def _cancel(play: Play, thread_id: ThreadId, accepted: Any) -> None:
    if isinstance(accepted, Accepted):
        dispatch_id, who = accepted.dispatches[0][0], play.world.who
        await play.client(
            lambda record: cancel_many.cancel_dispatch(record, who, thread_id, dispatch_id)
        )


async def _delete(play: Play, *thread_ids: ThreadId) -> None:
    """Delete the first thread, and so those below it."""
    play.maybe_deleted.update(thread_ids)
    who = play.world.who
    heard = await play.client(
        lambda record: delete_thread.delete_thread(record, who, thread_ids[0])
    )
    if heard is not NOBODY:
        play.deleted.update(thread_ids)


STORIES: Final = (
    Story("cancel before the start", cancel_queued, {"cancelled before_start": 1}),
    Story("cancel of a running turn", cancel_running, {"cancelled requested": 1}),
    Story("cancel of a deaf turn", cancel_deaf, {"cancelled cancel_grace": 1}),
    Story(
        "cancel with what works for it",
        cancel_with_work,
        {"cancelled requested": 1, "cancelled before_start": 1},
    ),
    Story(
        "cancel with what works for it, by HTTP",
        cancel_under_a_call,
        {"cancelled requested": 1, "cancelled before_start": 1},
    ),
    Story(
        "cancel of a thread",
        cancel_thread,
        {"cancelled requested": 1, "cancelled before_start": 2},
    ),
    Story("no progress", no_progress, {"failed no_progress": 1}),
    Story("drain of an untouched turn", drained_untouched, {"completed": 1}),
    Story(
        "drain of a turn with effects",
        drained_with_effects,
        {"failed interrupted": 1, "completed": 1},
    ),
    Story("drain after a checkpoint", drained_at_checkpoint, {"completed": 1}),
    Story("delete while running", deleted_while_running, {}),
)
