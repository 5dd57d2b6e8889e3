"""A turn gives two tasks, waits without a worker, and goes on with what came of them."""

from collections import Counter
from typing import Final

from dispatch.ids import DispatchId, ThreadId
from dispatch.operations import cancel_many
from dispatch.payloads.content import text_of
from dispatch.payloads.llm import ToolResult
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Delegated,
    DelegationEnded,
    Failed,
    Queued,
)
from dispatch.streams import entries
from tests.crashes.play import Play
from tests.crashes.stories.story import Story


async def done(play: Play) -> None:
    await _gives(play)


async def cancelled(play: Play) -> None:
    """The turn is cancelled while it waits."""
    thread_id = await play.open_child(await play.open_thread())
    play.checks.append(lambda: _check(play, thread_id))
    accepted = await play.post(thread_id, "delegate say", key="first", mentions=("three",))
    await play.one_turn()
    for dispatch_id, _ in getattr(accepted, "dispatches", ()):
        await play.client(
            lambda record, dispatch_id=dispatch_id: cancel_many.cancel_dispatch(
                record, play.world.who, thread_id, dispatch_id
            )
        )
    await play.keeper()
    await play.workers()


async def late(play: Play) -> None:
    """Their hints are lost; they begin when nobody waits for them any more."""
    thread_id = await play.open_child(await play.open_thread())
    play.checks.append(lambda: _check(play, thread_id))
    await play.post(thread_id, "delegate say", key="first", mentions=("three",))
    await play.one_turn()
    await play.pass_seconds(play.world.settings.delegation_seconds)
    await play.keeper()
    await play.workers()


async def _gives(play: Play) -> ThreadId:
    thread_id = await play.open_child(await play.open_thread())
    play.checks.append(lambda: _check(play, thread_id))
    await play.post(thread_id, "delegate say", key="first", mentions=("three",))
    await play.workers()
    return thread_id


async def _payloads(play: Play, thread_id: ThreadId) -> list[object]:
    found = await entries.page(play.world.doors.wire, thread_id, limit=1000)
    return [each.payload for each in found]


async def _check(play: Play, thread_id: ThreadId) -> None:
    found = await _payloads(play, thread_id)
    asked = [each for each in found if isinstance(each, Delegated)]
    heard = Counter(e.delegation_id for e in found if isinstance(e, DelegationEnded))
    results = {e.tool_call_id: e for e in found if isinstance(e, ToolResult)}
    is_completed = any(isinstance(each, Completed) for each in found)
    given = Counter(each.tool_call_id for each in asked)
    assert all(count == 1 for count in given.values()), "a call gives one task"
    assert all(count == 1 for count in heard.values()), "a task's end is heard once"
    assert sum(isinstance(e, ToolResult) for e in found) == len(results), (
        "a call has one result"
    )
    for each in asked:
        assert each.tool_call_id in results, "a task that was given has a result"
        if is_completed:
            assert heard[each.delegation_id] == 1, "no turn goes on before its tasks' ends"
    ends = {e.delegation_id: e for e in found if isinstance(e, DelegationEnded)}
    for each in asked:
        if each.delegation_id not in ends:
            continue
        end, result = ends[each.delegation_id], results[each.tool_call_id]
        is_told = end.text == text_of(result.message) or result.is_error
        assert is_told, "the result is what came of the task"
        is_lost = is_completed and result.message.get("details", {}).get("interrupted")
        assert not is_lost, "an end that was heard is not lost"
    await _check_tasks(play, thread_id)


async def _check_tasks(play: Play, thread_id: ThreadId) -> None:
    rows = await play.world.admin.execute(
        "select id, parent_call_id from threads where parent_thread_id = %s"
        " and parent_call_id is not null",
        [thread_id],
    )
    made = await rows.fetchall()
    calls = Counter(call for _, call in made)
    assert all(count == 1 for count in calls.values()), "a call has one thread"
    for task_id, _ in made:
        found = await _payloads(play, ThreadId(task_id))
        born: set[DispatchId] = {e.dispatch_id for e in found if isinstance(e, Queued)}
        ended = Counter(
            e.dispatch_id for e in found if isinstance(e, Completed | Failed | Cancelled)
        )
        assert ended == dict.fromkeys(born, 1), "a task ends, once"


STORIES: Final = (
    Story("turn that gives tasks", done, {"completed": 3}),
    Story("turn that is cancelled with its tasks", cancelled, {"cancelled before_start": 3}),
    Story("turn whose tasks take too long", late, {"completed": 1, "cancelled cascade": 2}),
)
