import pytest

from dispatch import ids
from dispatch.errors import Conflict, Fenced
from dispatch.payloads.signals import Heartbeat, Started
from dispatch.payloads.usage import Cost, TokenUsage, UsageTotals
from dispatch.streams import keys
from dispatch.streams.runs import Claimed, NotClaimed
from tests.streams.scene import ASSISTANT, CHUNK, RETRYING, USAGE, WORKER, Scene, new_lane


async def running(scene: Scene):
    lane = new_lane()
    thread_id = await scene.create()
    await scene.accept(thread_id, lane)
    return thread_id, lane, await scene.hold(thread_id, lane)


async def test_a_claim_names_its_run_and_brings_the_entry(scene: Scene) -> None:
    lane = new_lane()
    thread_id = await scene.create()
    accepted = await scene.accept(thread_id, lane, text="what is it?")

    claimed = await scene.claim(thread_id, lane)

    assert isinstance(claimed, Claimed)
    assert b"what is it?" in claimed.entry
    assert claimed.fence.dispatch_id == accepted.dispatches[0][0]
    started = (await scene.said(thread_id))[-1]
    assert isinstance(started, Started)
    assert (started.attempt, started.run_id) == (1, claimed.fence.run_id)
    assert started.hard_ms == scene.clock.now_ms + scene.settings.run_timeout_seconds * 1000
    assert scene.redis.smembers(keys.runs(WORKER)) == {f"{thread_id}|{lane}".encode()}


async def test_a_claim_whose_answer_was_lost_is_answered_again(scene: Scene) -> None:
    lane, run_id = new_lane(), ids.new_run_id()
    thread_id = await scene.create()
    await scene.accept(thread_id, lane)
    first = await scene.claim(thread_id, lane, run_id)

    assert await scene.claim(thread_id, lane, run_id) == first
    assert (await scene.types(thread_id)).count("started") == 1
    assert await scene.claim(thread_id, lane) == NotClaimed("busy")


async def test_a_batch_is_written_in_order_or_not_at_all(scene: Scene) -> None:
    thread_id, _, fence = await running(scene)
    await scene.append(fence, 1, CHUNK, RETRYING, ASSISTANT)
    before = await scene.stream(thread_id)
    written = before[-3:]
    assert [entry.writer for entry in written] == [f"{fence.run_id}:{n}" for n in (1, 2, 3)]
    assert [entry.seq for entry in written] == [None, 5, 6]

    with pytest.raises(Fenced, match="GAP"):
        await scene.append(fence, 5, CHUNK, ASSISTANT)
    with pytest.raises(Conflict):
        await scene.append(fence, 4, CHUNK, ASSISTANT, max_stream_entries=6)

    assert await scene.stream(thread_id) == before


async def test_a_repeated_batch_changes_nothing(scene: Scene) -> None:
    thread_id, _, fence = await running(scene)
    await scene.append(fence, 1, CHUNK, ASSISTANT)
    before = await scene.stream(thread_id)

    again = await scene.append(fence, 1, CHUNK, ASSISTANT)

    assert again.entry_id is None
    assert await scene.stream(thread_id) == before


async def test_a_write_starts_the_lease_anew(scene: Scene) -> None:
    thread_id, lane, fence = await running(scene)
    for n in (1, 2):
        scene.clock.advance(scene.settings.lease_seconds - 1)
        await scene.append(fence, n, RETRYING)

    assert await scene.expire(thread_id, lane) == "live"
    assert list(scene.due().values()) == [int(scene.settings.lease_seconds * 1000)]


async def test_no_write_moves_the_hard_limit(scene: Scene) -> None:
    thread_id, lane, fence = await running(scene)
    scene.clock.advance(scene.settings.run_timeout_seconds)
    await scene.append(fence, 1, ASSISTANT)

    assert await scene.expire(thread_id, lane) == "failed"
    assert (await scene.said(thread_id))[-2].reason == "run_timeout"


async def test_only_the_newest_heartbeat_of_a_run_stays(scene: Scene) -> None:
    thread_id, _, fence = await running(scene)
    for _ in range(3):
        await scene.renew(fence)

    beats = [said for said in await scene.said(thread_id) if isinstance(said, Heartbeat)]
    assert beats == [Heartbeat(dispatch_id=fence.dispatch_id, run_id=fence.run_id)]
    assert (await scene.state(thread_id)).seq == 4


async def test_every_answer_tells_that_the_run_shall_end(scene: Scene) -> None:
    thread_id, _, fence = await running(scene)
    assert (await scene.renew(fence)).cancel_reason is None
    await scene.cancel(thread_id, fence.dispatch_id)

    assert (await scene.renew(fence)).cancel_reason == "requested"
    assert (await scene.append(fence, 1, RETRYING)).cancel_reason == "requested"


async def test_the_last_words_ride_with_the_ending(scene: Scene) -> None:
    thread_id, lane, fence = await running(scene)
    await scene.accept(thread_id, lane, key="next")

    ended = await scene.finish(fence, 1, ASSISTANT)

    assert (await scene.types(thread_id))[-2:] == ["assistant", "completed"]
    assert await scene.finish(fence, 1, ASSISTANT) == ended
    grace_ms = int(scene.settings.redeliver_after_seconds * 1000)
    assert list(scene.due().values()) == [grace_ms]
    assert scene.redis.smembers(keys.runs(WORKER)) == set()
    state = await scene.state(thread_id)
    assert state.usage == UsageTotals().plus(USAGE)
    assert state.lanes[str(lane)].since_ms == scene.clock.now_ms


async def test_an_ending_out_of_order_is_refused_whole(scene: Scene) -> None:
    thread_id, _, fence = await running(scene)

    with pytest.raises(Fenced, match="GAP"):
        await scene.finish(fence, 3, ASSISTANT)

    assert (await scene.types(thread_id))[-1] == "started"


async def test_usage_of_all_runs_adds_up(scene: Scene) -> None:
    lane = new_lane()
    thread_id = await scene.create()
    for key in "abc":
        await scene.accept(thread_id, lane, key=key)
        await scene.finish(await scene.hold(thread_id, lane), 1)

    state = await scene.state(thread_id)
    assert state.usage == UsageTotals(
        input=9, output=15, total_tokens=24, cost_nanos=750_000_000
    )


async def test_absurd_usage_cannot_spoil_the_ending(scene: Scene) -> None:
    thread_id, _, fence = await running(scene)
    absurd = TokenUsage(input=10**30, output=-5, cost=Cost(total=float("nan")))

    await scene.finish(fence, 1, usage=absurd)

    state = await scene.state(thread_id)
    assert state.usage == UsageTotals(input=10**12)


async def test_a_released_dispatch_is_first_again_and_burns_no_attempt(scene: Scene) -> None:
    thread_id, lane, fence = await running(scene)
    await scene.accept(thread_id, lane, key="next")

    assert await scene.release(fence)

    state = await scene.state(thread_id)
    assert state.lanes[str(lane)].queue[0] == fence.dispatch_id
    assert list(scene.due().values()) == [0]
    again = await scene.hold(thread_id, lane)
    assert (again.dispatch_id, again.attempt) == (fence.dispatch_id, 1)
