"""Threads that are archived and restored, with turns before, between and after."""

from typing import Final

from dispatch.ids import ThreadId
from dispatch.operations import archiving, restore_thread
from dispatch.operations.archiving import Outcome
from tests.crashes.play import Play
from tests.crashes.stories.story import Story


async def archived(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "say", key="first")
    await play.workers()
    await _archive(play, thread_id)
    await play.post(thread_id, "say", key="second")
    await play.workers()
    await _archive(play, thread_id)


async def archived_under_a_turn(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "say", key="first")
    await play.workers()
    await play.post(thread_id, "say gate say", key="second")
    worker = await play.worker_to_gate()
    await _archive(play, thread_id)
    await play.let_through(worker)
    await play.workers()


async def restored(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "say", key="first")
    await play.workers()
    await _archive(play, thread_id)
    await play.post(thread_id, "say", key="second")
    await play.workers()
    await _restore(play, thread_id)
    await _archive(play, thread_id)


async def archived_and_forgotten(play: Play) -> None:
    """Redis loses all that it had; what was archived stays."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "say", key="first")
    await play.workers()
    await _archive(play, thread_id)
    await play.redis_forgets()
    await play.post(thread_id, "say", key="second")
    await play.workers()


async def rolled_over(play: Play) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, "say", key="first")
    await play.workers()
    who = play.world.who
    done = await play.client(
        lambda record: archiving.archive(record, who, thread_id, rolls_over=True)
    )
    if isinstance(done, Outcome) and done.next_thread is not None:
        play.threads.append(done.next_thread.id)
        await play.post(done.next_thread.id, "say", key="second")
        await play.workers()

    async def check() -> None:
        found = await play.world.admin.execute(
            "select count(*) from threads where previous_thread_id = %s", [thread_id]
        )
        [count] = await found.fetchone() or (0,)
        assert count <= 1, "a thread goes on in one other"

    play.checks.append(check)


async def _archive(play: Play, thread_id: ThreadId) -> None:
    who = play.world.who
    await _nothing_changes(play, thread_id)
    await play.client(lambda record: archiving.archive(record, who, thread_id))
    await _nothing_changes(play, thread_id)


async def _restore(play: Play, thread_id: ThreadId) -> None:
    who = play.world.who
    await play.client(lambda record: restore_thread.restore_thread(record, who, thread_id))
    await _nothing_changes(play, thread_id)


async def _nothing_changes(play: Play, thread_id: ThreadId) -> None:
    """Let what is durable now read the same in the end, in the same bytes."""
    whole = play.world.record.entries
    before = [each for each in await whole.page(thread_id, limit=9999) if each.seq is not None]

    async def check() -> None:
        now = [each for each in await whole.page(thread_id, limit=9999) if each.seq is not None]
        kept = len(before) if not play.has_forgotten else 0
        assert now[:kept] == before[:kept], "what was archived reads as before"

    play.checks.append(check)


STORIES: Final = (
    Story("archive", archived, {"completed": 2}),
    Story("archive under a turn", archived_under_a_turn, {"completed": 2}),
    Story("restore", restored, {"completed": 2}),
    # The turn's end is the last entry, which always stays in Redis.
    Story(
        "Redis forgets an archived thread",
        archived_and_forgotten,
        {"failed stream_rollback": 1, "completed": 1},
    ),
    Story("roll over", rolled_over, {"completed": 2}),
)
