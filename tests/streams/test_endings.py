import pytest

from dispatch.errors import Fenced, Gone
from dispatch.ids import EntryId
from dispatch.payloads.signals import Cancelled, CancelRequested, Failed, RunLost
from dispatch.streams import keys, threads
from dispatch.streams.entries import wire_of
from tests.streams.scene import ASSISTANT, WORKER, Scene, lane_fields, new_lane


async def queued(scene: Scene, count: int = 1):
    lane = new_lane()
    thread_id = await scene.create()
    accepted = [await scene.accept(thread_id, lane, key=str(n)) for n in range(count)]
    return thread_id, lane, [one.dispatches[0][0] for one in accepted]


async def test_a_lost_run_waits_longer_each_time_and_fails_in_the_end(scene: Scene) -> None:
    thread_id, lane, _ = await queued(scene)
    waits = []
    for _ in range(scene.settings.max_attempts - 1):
        await scene.hold(thread_id, lane)
        scene.clock.advance(scene.settings.lease_seconds)
        assert await scene.expire(thread_id, lane) == "lost"
        waits += scene.due().values()
        scene.clock.advance(waits[-1] / 1000)
    fence = await scene.hold(thread_id, lane)
    scene.clock.advance(scene.settings.lease_seconds)

    assert await scene.expire(thread_id, lane) == "failed"

    assert waits == [1000, 2000]
    assert fence.attempt == scene.settings.max_attempts
    *_, failed, orphaned = await scene.said(thread_id)
    assert isinstance(failed, Failed)
    assert failed.reason == orphaned.reason == "attempts_exhausted"
    assert scene.due() == {}


async def test_a_run_with_a_visible_effect_is_never_repeated(scene: Scene) -> None:
    thread_id, lane, _ = await queued(scene)
    fence = await scene.hold(thread_id, lane)
    await scene.append(fence, 1, ASSISTANT)
    scene.clock.advance(scene.settings.lease_seconds)

    assert await scene.expire(thread_id, lane) == "failed"

    assert (await scene.types(thread_id))[-2:] == ["failed", "pi_session_orphaned"]
    assert (await scene.state(thread_id)).outcome == "orphaned"


async def test_a_reaped_run_writes_nothing_more(scene: Scene) -> None:
    thread_id, lane, _ = await queued(scene)
    fence = await scene.hold(thread_id, lane)
    scene.clock.advance(scene.settings.lease_seconds)
    await scene.expire(thread_id, lane)
    before = await scene.stream(thread_id)

    for write in (
        scene.append(fence, 1, ASSISTANT),
        scene.renew(fence),
        scene.finish(fence, 1),
    ):
        with pytest.raises(Fenced):
            await write

    assert await scene.stream(thread_id) == before


async def test_the_run_of_a_dead_worker_is_reaped_before_its_lease_is_over(
    scene: Scene,
) -> None:
    thread_id, lane, _ = await queued(scene)
    fence = await scene.hold(thread_id, lane)
    scene.clock.advance(scene.settings.worker_dead_seconds)

    assert await scene.expire(thread_id, lane, fence.run_id) == "lost"

    assert isinstance((await scene.said(thread_id))[-1], RunLost)


@pytest.mark.parametrize("sign", ["append", "renew"])
async def test_a_run_that_gave_a_sign_since_its_worker_was_found_dead_lives(
    scene: Scene, sign: str
) -> None:
    thread_id, lane, _ = await queued(scene)
    fence = await scene.hold(thread_id, lane)
    scene.clock.advance(scene.settings.worker_dead_seconds)
    await (scene.renew(fence) if sign == "renew" else scene.append(fence, 1, ASSISTANT))
    scene.clock.advance(scene.settings.worker_dead_seconds - 0.001)

    assert await scene.expire(thread_id, lane, fence.run_id) == "live"

    scene.clock.advance(0.001)
    assert await scene.expire(thread_id, lane, fence.run_id) in {"lost", "failed"}


async def test_what_nobody_started_fails_and_makes_room_for_the_next(scene: Scene) -> None:
    thread_id, lane, (first, second) = await queued(scene, 2)
    scene.clock.advance(scene.settings.start_timeout_seconds)

    assert await scene.expire(thread_id, lane) == "failed"

    failed = (await scene.said(thread_id))[-2]
    assert (failed.dispatch_id, failed.reason) == (first, "never_started")
    assert (await scene.state(thread_id)).lanes[str(lane)].queue == (second,)
    assert list(scene.due().values()) == [0]


async def test_a_hint_is_asked_for_again_less_and_less_often(scene: Scene) -> None:
    thread_id, lane, _ = await queued(scene)
    grace_ms = int(scene.settings.redeliver_after_seconds * 1000)
    scene.clock.advance(scene.settings.redeliver_after_seconds)
    pauses: list[int] = []
    for _ in range(6):
        assert await scene.expire(thread_id, lane) == "hint"
        (pause,) = scene.due().values()
        pauses.append(pause)
        scene.clock.advance(pause / 1000)

    assert pauses == [grace_ms * times for times in (1, 2, 4, 8, 12, 12)]


async def test_expire_repairs_an_index_that_names_an_idle_lane(scene: Scene) -> None:
    lane = new_lane()
    thread_id = await scene.create()
    scene.redis.zadd(keys.DUE, {f"{thread_id}|{lane}": 0})

    assert await scene.expire(thread_id, lane) == "none"

    assert scene.due() == {}


async def test_a_cancelled_dispatch_never_starts(scene: Scene) -> None:
    thread_id, lane, (first, second) = await queued(scene, 2)

    assert await scene.cancel(thread_id, second) == "cancelled"
    assert await scene.cancel(thread_id, first) == "cancelled"

    ending = (await scene.said(thread_id))[-1]
    assert isinstance(ending, Cancelled)
    assert ending.message == 'not "this"'
    assert lane_fields(await scene.fields(thread_id), lane) == {}
    assert scene.due() == {}


async def test_the_next_does_not_wait_for_a_cancelled_one(
    scene: Scene,
) -> None:
    thread_id, lane, (first, second) = await queued(scene, 2)
    fence = await scene.hold(thread_id, lane)
    scene.clock.advance(scene.settings.worker_dead_seconds)
    await scene.expire(thread_id, lane, fence.run_id)
    assert list(scene.due().values()) == [1000]

    await scene.cancel(thread_id, first)

    assert list(scene.due().values()) == [0]
    assert (await scene.hold(thread_id, lane)).dispatch_id == second


async def test_a_cancelled_run_has_its_grace_and_no_more(scene: Scene) -> None:
    thread_id, lane, (dispatch_id,) = await queued(scene)
    fence = await scene.hold(thread_id, lane)
    assert await scene.cancel(thread_id, dispatch_id) == "requested"
    asked = (await scene.said(thread_id))[-1]
    assert isinstance(asked, CancelRequested)
    scene.clock.advance(scene.settings.cancel_grace_seconds - 1)
    assert await scene.expire(thread_id, lane) == "live"
    await scene.renew(fence)
    scene.clock.advance(1)

    assert await scene.expire(thread_id, lane) == "cancelled"

    ending = (await scene.said(thread_id))[-1]
    assert (ending.reason, ending.run_id) == ("cancel_grace", fence.run_id)


async def test_delete_leaves_a_tombstone_that_expires_and_nothing_else(scene: Scene) -> None:
    thread_id, lane, _ = await queued(scene, 2)
    await scene.hold(thread_id, lane)

    for _ in range(2):
        await scene.delete(thread_id)
        assert scene.keys_of(thread_id) == [keys.state(thread_id)]
        assert set(await scene.fields(thread_id)) == {"deleted"}

    assert 0 < scene.redis.ttl(keys.state(thread_id)) <= scene.settings.tombstone_seconds
    assert scene.due() == {}
    with pytest.raises(Gone):
        await scene.create(thread_id)
    with pytest.raises(Gone):
        await scene.accept(thread_id)


async def test_followers_hear_each_entry_as_it_is_read_and_the_end(scene: Scene) -> None:
    thread_id = await scene.create()
    lane = new_lane()
    with scene.redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(keys.stream(thread_id))
        heard.get_message(timeout=1)
        await scene.accept(thread_id, lane)
        fence = await scene.hold(thread_id, lane)
        await scene.append(fence, 1, ASSISTANT)
        await scene.renew(fence)
        await scene.finish(fence, 2)
        stream = [entry.wire() for entry in await scene.stream(thread_id)]
        await scene.delete(thread_id)

        told = [heard.get_message(timeout=1)["data"] for _ in range(6)]

    assert told[-1] == b'{"gone":true}'
    lines = b"\n".join(told[:-1]).split(b"\n")
    assert [wire_of(line) for line in lines] == stream[1:]
    assert WORKER.encode() in told[1]


async def test_a_guarded_delete_spares_a_thread_that_went_on_since_the_look(
    scene: Scene,
) -> None:
    thread_id, _, _ = await queued(scene)
    seen = (await scene.state(thread_id)).mark
    await scene.accept(thread_id, new_lane(), key="later")
    before = await scene.stream(thread_id)

    async def delete(only_at: str) -> bool:
        return await threads.delete(
            scene.scripts, thread_id, tombstone_seconds=60, only_at=EntryId(only_at)
        )

    assert not await delete(seen)
    assert not await delete("")
    assert await scene.stream(thread_id) == before
    assert await delete((await scene.state(thread_id)).mark)
    assert await delete("")  # of what is gone already, nothing is left to guard
    with pytest.raises(Gone):
        await scene.accept(thread_id, new_lane(), key="late")
