"""A turn that waits for answers: it holds no worker, and goes on after the last of them."""

from typing import Any

import pytest
from msgspec.structs import replace

from dispatch.errors import Fenced
from dispatch.ids import ThreadId
from dispatch.models import policies
from dispatch.models.fold import fold
from dispatch.models.state import to_fields
from dispatch.payloads.llm import ToolResult
from dispatch.payloads.signals import (
    Cancelled,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
)
from dispatch.streams import keys
from dispatch.streams.runs import Fence
from tests.streams.scene import CALLS, WORKER, Scene, new_lane


class Asking:
    """One agent's turn with two open calls, and its questions."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.lane = new_lane()
        self.n = 1
        self.asked: list[str] = []

    async def begin(self) -> "Asking":
        self.thread_id: ThreadId = await self.scene.create()
        policy = replace(policies.of({}, self.scene.settings), repeatable=True)
        await self.scene.accept(self.thread_id, self.lane, policy=policy)
        self.fence: Fence = await self.scene.hold(self.thread_id, self.lane)
        await self.scene.append(self.fence, 1, CALLS)
        return self

    async def ask(self, call_id: str = "1", **how: Any) -> str:
        self.n += 1
        self.asked.append(await self.scene.ask(self.fence, self.n, call_id, **how))
        return self.asked[-1]

    async def grant(self, ask_id: str) -> str:
        told = PermissionGranted(permission_id=ask_id, dispatch_id=self.fence.dispatch_id)
        return await self.scene.answer(self.thread_id, told)

    async def expire(self) -> str:
        return await self.scene.expire(self.thread_id, self.lane)

    async def types(self) -> list[str]:
        return await self.scene.types(self.thread_id)

    async def same(self) -> None:
        fields = await self.scene.fields(self.thread_id)
        assert to_fields(fold(await self.scene.stream(self.thread_id))) == fields


@pytest.fixture
async def turn(scene: Scene) -> Asking:
    return await Asking(scene).begin()


async def test_a_question_stands_with_its_deadline_and_is_asked_once(turn: Asking) -> None:
    ask_id = await turn.ask(seconds=60)
    await turn.scene.ask(turn.fence, turn.n, "1", seconds=60)
    question = (await turn.scene.said(turn.thread_id))[-1]
    assert isinstance(question, PermissionRequested)
    assert (question.permission_id, question.arguments) == (ask_id, {"x": 'y "z"'})
    assert question.deadline == turn.scene.clock.now_ms + 60_000
    await turn.same()


async def test_a_turn_that_waits_holds_no_worker_and_no_attempt(turn: Asking) -> None:
    await turn.ask(seconds=60)
    assert await turn.scene.wait(turn.fence) == "waiting"
    await turn.same()
    state = await turn.scene.state(turn.thread_id)
    lane = state.lanes[str(turn.lane)]
    assert (lane.run, lane.queue) == (None, (turn.fence.dispatch_id,))
    dispatch = state.dispatches[turn.fence.dispatch_id]
    assert (dispatch.attempt, len(dispatch.asks), len(dispatch.calls)) == (0, 1, 1)
    assert list(turn.scene.due().values()) == [60_000]
    assert not turn.scene.redis.smembers(keys.runs(WORKER))
    with pytest.raises(Fenced):
        await turn.scene.append(turn.fence, turn.n + 1, CALLS)
    assert await turn.expire() == "wait"


@pytest.mark.parametrize(
    ("when_busy", "reason", "told"),
    [("interrupt", "interrupted", []), ("rollback", "rolled_back", ["rolled_back"])],
)
async def test_an_entry_that_takes_its_place_ends_who_waits(
    turn: Asking, when_busy: str, reason: str, told: list[str]
) -> None:
    await turn.ask()
    await turn.scene.wait(turn.fence)
    ((behind, _),) = (await turn.scene.accept(turn.thread_id, turn.lane, key="b")).dispatches
    count = len(await turn.types())

    taker = await turn.scene.accept(turn.thread_id, turn.lane, key="c", when_busy=when_busy)

    assert (await turn.types())[count:] == ["chat", *told, "tool_result", "cancelled", "queued"]
    (ended,) = [e for e in await turn.scene.said(turn.thread_id) if isinstance(e, Cancelled)]
    assert (ended.dispatch_id, ended.reason) == (turn.fence.dispatch_id, reason)
    assert await turn.grant(turn.asked[0]) == "none"
    state = await turn.scene.state(turn.thread_id)
    assert state.lanes[str(turn.lane)].queue == (taker.dispatches[0][0], behind)
    assert await turn.expire() == "hint"
    await turn.same()


async def test_only_the_call_that_waits_stays_open(turn: Asking) -> None:
    await turn.ask("1")
    await turn.scene.wait(turn.fence)
    results = [e for e in await turn.scene.said(turn.thread_id) if isinstance(e, ToolResult)]
    assert [each.tool_call_id for each in results] == ['ä "2" %,']
    assert results[0].message["details"] == {"interrupted": True}


async def test_the_last_answer_makes_it_due_and_the_next_run_goes_on(turn: Asking) -> None:
    first, second = await turn.ask("1"), await turn.ask('ä "2" %,')
    await turn.scene.wait(turn.fence)
    assert await turn.grant(first) == "answered"
    assert await turn.expire() == "wait"
    assert await turn.grant(second) == turn.lane
    await turn.same()
    assert (await turn.types())[-3:] == ["granted", "granted", "resumed"]
    assert await turn.expire() == "hint"
    again = await turn.scene.hold(turn.thread_id, turn.lane)
    assert (again.dispatch_id, again.attempt) == (turn.fence.dispatch_id, 1)
    await turn.same()


async def test_a_question_has_one_answer(turn: Asking) -> None:
    ask_id = await turn.ask()
    denied = PermissionDenied(permission_id=ask_id, dispatch_id=turn.fence.dispatch_id)
    assert await turn.grant(ask_id) == "answered"
    before = await turn.types()
    assert await turn.scene.answer(turn.thread_id, denied) == "none"
    assert await turn.grant(ask_id) == "none"
    assert await turn.types() == before


async def test_an_answer_that_comes_before_the_wait_is_not_waited_for(turn: Asking) -> None:
    await turn.grant(await turn.ask())
    assert await turn.scene.wait(turn.fence) == "answered"
    assert (await turn.scene.state(turn.thread_id)).lanes[str(turn.lane)].run is not None


async def test_a_question_nobody_answers_is_answered_by_its_default(turn: Asking) -> None:
    await turn.ask("1", seconds=60, default="grant")
    await turn.ask('ä "2" %,', seconds=90)
    await turn.scene.wait(turn.fence)
    turn.scene.clock.advance(60)
    assert await turn.expire() == "wait"
    await turn.same()
    turn.scene.clock.advance(30)
    assert await turn.expire() == "hint"
    await turn.same()
    assert (await turn.types())[-3:] == ["expired", "expired", "resumed"]
    expired = [
        e for e in await turn.scene.said(turn.thread_id) if isinstance(e, PermissionExpired)
    ]
    assert [each.default for each in expired] == ["grant", "deny"]
    assert (await turn.scene.hold(turn.thread_id, turn.lane)).attempt == 1


async def test_a_run_may_say_that_its_question_is_over_and_not_before(turn: Asking) -> None:
    ask_id = await turn.ask(seconds=60)
    over = PermissionExpired(
        permission_id=ask_id, dispatch_id=turn.fence.dispatch_id, default="deny"
    )
    assert await turn.scene.answer(turn.thread_id, over) == "early"
    turn.scene.clock.advance(60)
    assert await turn.scene.answer(turn.thread_id, over) == "answered"
    await turn.same()


async def test_a_cancel_ends_a_turn_that_waits_with_its_calls_and_questions(
    turn: Asking,
) -> None:
    ask_id = await turn.ask()
    await turn.scene.wait(turn.fence)
    assert await turn.scene.cancel(turn.thread_id, turn.fence.dispatch_id) == "cancelled"
    await turn.same()
    assert (await turn.types())[-2:] == ["tool_result", "cancelled"]
    assert await turn.grant(ask_id) == "none"
    assert turn.scene.due() == {}


async def test_a_run_that_was_asked_to_end_does_not_wait(turn: Asking) -> None:
    await turn.ask()
    await turn.scene.cancel(turn.thread_id, turn.fence.dispatch_id)
    assert await turn.scene.wait(turn.fence) == "cancelling"


@pytest.mark.parametrize("how", ["lost", "released"])
async def test_a_run_that_ends_before_it_waits_leaves_its_question_open(
    turn: Asking, how: str
) -> None:
    ask_id = await turn.ask(seconds=3600)
    if how == "lost":
        turn.scene.clock.advance(turn.scene.settings.lease_seconds)
        assert await turn.expire() == "lost"
    else:
        assert await turn.scene.release(turn.fence) == "released"
    await turn.same()
    turn.scene.clock.advance(60)
    assert await turn.expire() == "wait"
    assert await turn.grant(ask_id) == turn.lane
    await turn.same()
    assert await turn.expire() == "hint"


async def test_a_turn_that_ends_leaves_no_question(turn: Asking) -> None:
    ask_id = await turn.ask()
    await turn.scene.finish(turn.fence, turn.n + 1)
    await turn.same()
    assert await turn.grant(ask_id) == "none"
