"""A turn asks, waits without a worker, is answered, and goes on; or nobody answers in time."""

from collections import Counter
from typing import Final

from dispatch.errors import ArbeError
from dispatch.ids import ThreadId
from dispatch.operations import permissions
from dispatch.operations.permissions import Permission, Reply
from dispatch.payloads.llm import ToolResult
from dispatch.payloads.signals import (
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
)
from dispatch.streams import entries
from tests.crashes.play import NOBODY, Play
from tests.crashes.stories.story import Story

GRANT: Final = Reply(decision="grant")


async def granted(play: Play) -> None:
    thread_id = await _asks(play)
    for asked in await _open(play, thread_id):
        heard = await play.client(
            lambda record, asked=asked: permissions.answer(
                record, play.world.who, thread_id, asked.question.asked.permission_id, GRANT
            )
        )
        if heard is not NOBODY and not isinstance(heard, ArbeError):
            play.checks.append(lambda: _granted_stands(play, thread_id))
    await play.workers()


async def over(play: Play) -> None:
    """Nobody answers."""
    thread_id = await _asks(play)
    for asked in await _open(play, thread_id):
        deadline_ms = asked.question.asked.deadline
        await play.pass_seconds((deadline_ms - play.world.doors.clock.now_ms) / 1000)
    await play.keeper()
    await play.workers()


async def _asks(play: Play) -> ThreadId:
    thread_id = await play.open_child(await play.open_thread())
    play.checks.append(lambda: _check(play, thread_id))
    await play.post(thread_id, "permit say", key="first", mentions=("three",))
    await play.workers()
    return thread_id


async def _open(play: Play, thread_id: ThreadId) -> tuple[Permission, ...]:
    return await permissions.list_open(play.world.record, play.world.who, thread_id)


async def _payloads(play: Play, thread_id: ThreadId) -> list[object]:
    found = await entries.page(play.world.doors.wire, thread_id, limit=1000)
    return [each.payload for each in found]


async def _check(play: Play, thread_id: ThreadId) -> None:
    found = await _payloads(play, thread_id)
    asked = Counter(e.tool_call_id for e in found if isinstance(e, PermissionRequested))
    results = Counter(e.tool_call_id for e in found if isinstance(e, ToolResult))
    assert all(count == 1 for count in asked.values()), "a call is asked for once"
    assert all(count == 1 for count in results.values()), "a call has one result"
    assert asked.keys() <= results.keys(), "what was asked for has a result"


async def _granted_stands(play: Play, thread_id: ThreadId) -> None:
    found = await _payloads(play, thread_id)
    answers = [e for e in found if isinstance(e, PermissionGranted | PermissionExpired)]
    assert [type(each) for each in answers] == [PermissionGranted], "what was answered counts"


STORIES: Final = (
    Story("turn that asks", granted, {"completed": 1}),
    Story("turn that nobody answers", over, {"completed": 1}),
)
