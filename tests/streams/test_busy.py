"""What becomes of an entry whose lane is busy; after each step the hash is the fold."""

import pytest
import pytest_asyncio

from dispatch.errors import Conflict
from dispatch.models.fold import fold
from dispatch.models.state import to_fields
from dispatch.payloads.signals import FellThrough, Queued, Steered
from tests.streams.scene import ASSISTANT, Scene, new_lane


class Busy:
    """A thread whose one lane runs `first`, with `second` waiting."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.lane = new_lane()

    async def begin(self) -> "Busy":
        self.thread_id = await self.scene.create()
        self.first = await self.post("first")
        self.fence = await self.scene.hold(self.thread_id, self.lane)
        self.second = await self.post("second")
        return self

    async def post(self, text: str, **choices):
        accepted = await self.scene.accept(
            self.thread_id, self.lane, key=text, text=text, **choices
        )
        await self.same()
        return accepted.dispatches[0][0] if accepted.dispatches else None

    async def same(self) -> None:
        state = fold(await self.scene.stream(self.thread_id))
        assert to_fields(state) == await self.scene.fields(self.thread_id)

    async def queue(self):
        return (await self.scene.state(self.thread_id)).lanes[str(self.lane)].queue

    async def of(self, kind: type) -> list:
        said = await self.scene.said(self.thread_id)
        return [payload for payload in said if isinstance(payload, kind)]


@pytest_asyncio.fixture
async def busy(scene: Scene) -> Busy:
    return await Busy(scene).begin()


async def test_reject_names_the_active_dispatch_and_leaves_nothing(busy: Busy) -> None:
    before = await busy.scene.stream(busy.thread_id)

    with pytest.raises(Conflict) as refused:
        await busy.post("third", when_busy="reject")

    assert refused.value.reason == "busy"
    assert refused.value.fields["dispatchId"] == busy.first
    assert await busy.scene.stream(busy.thread_id) == before
    assert await busy.post("third") is not None


async def test_interrupt_asks_the_turn_to_end_and_is_next(busy: Busy) -> None:
    third = await busy.post("third", when_busy="interrupt")

    assert await busy.queue() == (third, busy.second)
    assert (await busy.scene.renew(busy.fence)).cancel_reason == "interrupted"
    await busy.scene.finish(busy.fence, 1, outcome="cancelled")
    assert (await busy.scene.hold(busy.thread_id, busy.lane)).dispatch_id == third
    await busy.same()


async def test_rollback_marks_the_interrupted_turn_once(busy: Busy) -> None:
    await busy.post("third", when_busy="interrupt")
    await busy.post("fourth", when_busy="rollback")
    await busy.post("fifth", when_busy="rollback")

    types = await busy.scene.types(busy.thread_id)
    assert types.count("cancel_requested") == types.count("rolled_back") == 1
    assert (await busy.scene.renew(busy.fence)).cancel_reason == "rolled_back"


async def test_write_is_written_down_and_wakes_nobody(busy: Busy) -> None:
    assert await busy.post("third", when_busy="write") is None

    assert (await busy.scene.types(busy.thread_id))[-1] == "written"
    assert await busy.queue() == (busy.second,)


@pytest.mark.parametrize("when_busy", ["reject", "interrupt", "rollback", "steer", "write"])
async def test_a_free_lane_takes_any_entry(scene: Scene, when_busy: str) -> None:
    thread_id = await scene.create()

    await scene.accept(thread_id, new_lane(), when_busy=when_busy)

    assert (await scene.types(thread_id))[1:] == ["chat", "queued"]


async def test_a_step_takes_in_what_steers_it_once(busy: Busy) -> None:
    third = await busy.post("third", when_busy="steer")
    fourth = await busy.post("fourth", when_busy="steer")

    taken = await busy.scene.take(busy.fence, 1, step=7)
    await busy.same()
    again = await busy.scene.take(busy.fence, 1, step=7)

    assert [dispatch_id for dispatch_id, _ in taken.entries] == [third, fourth]
    assert b'"text":"third"' in taken.entries[0][1]
    assert again == taken
    receipts = await busy.of(Steered)
    assert [(each.into, each.step) for each in receipts] == [(busy.first, 7)] * 2
    assert await busy.queue() == (busy.second,)
    assert (await busy.scene.take(busy.fence, 3)).entries == ()
    await busy.scene.append(busy.fence, 3, ASSISTANT)
    await busy.same()


async def test_what_steers_a_turn_that_ends_first_falls_through(busy: Busy) -> None:
    third = await busy.post("third", when_busy="steer")

    await busy.scene.finish(busy.fence, 1)

    await busy.same()
    (receipt,) = await busy.of(FellThrough)
    assert (receipt.dispatch_id, receipt.target) == (third, busy.first)
    assert await busy.queue() == (busy.second, third)
    following = await busy.scene.hold(busy.thread_id, busy.lane)
    assert (await busy.scene.take(following, 1)).entries == ()


async def test_steering_outlives_a_lost_run_and_ends_with_its_dispatch(busy: Busy) -> None:
    third = await busy.post("third", when_busy="steer")
    busy.scene.clock.advance(busy.scene.settings.lease_seconds)
    assert await busy.scene.expire(busy.thread_id, busy.lane) == "lost"
    await busy.same()
    busy.scene.clock.advance(1)
    again = await busy.scene.hold(busy.thread_id, busy.lane)
    assert again.dispatch_id == busy.first
    assert [each for each, _ in (await busy.scene.take(again, 1)).entries] == [third]
    await busy.same()


async def test_a_withdrawn_entry_never_starts_nor_steers(busy: Busy) -> None:
    third = await busy.post("third", when_busy="steer")

    for dispatch_id in (third, busy.second):
        word = await busy.scene.cancel(busy.thread_id, dispatch_id, only_queued=True)
        assert word == "cancelled"
        await busy.same()

    assert await busy.scene.cancel(busy.thread_id, busy.first, only_queued=True) == "running"
    assert (await busy.scene.take(busy.fence, 1)).entries == ()
    assert await busy.queue() == ()


async def test_an_entry_is_accepted_only_in_a_status_it_names(busy: Busy) -> None:
    with pytest.raises(Conflict) as refused:
        await busy.post("third", if_status=("open", "failed"))
    assert refused.value.fields["threadStatus"] == "running"

    assert await busy.post("third", if_status=("running",)) is not None


async def test_the_policy_of_a_dispatch_is_born_with_it(busy: Busy) -> None:
    queued = (await busy.of(Queued))[0]
    state = await busy.scene.state(busy.thread_id)
    assert state.dispatches[busy.first].policy == queued.policy


async def test_an_entry_steers_the_turn_it_was_posted_into_and_no_other(busy: Busy) -> None:
    early = await busy.post("early", when_busy="steer")
    await busy.scene.release(busy.fence)
    other = await busy.post("other", when_busy="interrupt")
    fence = await busy.scene.hold(busy.thread_id, busy.lane)
    assert fence.dispatch_id == other
    late = await busy.post("late", when_busy="steer")

    taken = await busy.scene.take(fence, 1)
    assert [dispatch_id for dispatch_id, _ in taken.entries] == [late]
    await busy.same()
    later = await busy.post("later", when_busy="steer")
    await busy.scene.finish(fence, 2)
    await busy.same()

    assert [(fell.dispatch_id, fell.target) for fell in await busy.of(FellThrough)] == [
        (later, other)
    ]
    first = await busy.scene.hold(busy.thread_id, busy.lane)
    assert first.dispatch_id == busy.first
    taken = await busy.scene.take(first, 1)
    assert [dispatch_id for dispatch_id, _ in taken.entries] == [early]
    await busy.same()


async def test_a_step_asked_again_takes_in_its_own_entries_only(busy: Busy) -> None:
    await busy.scene.append(busy.fence, 1, ASSISTANT)
    await busy.post("early", when_busy="steer")
    await busy.scene.take(busy.fence, 2)
    late = await busy.post("late", when_busy="steer")
    taken = await busy.scene.take(busy.fence, 3, step=2)

    assert [dispatch_id for dispatch_id, _ in taken.entries] == [late]
    assert await busy.scene.take(busy.fence, 3, step=2) == taken
