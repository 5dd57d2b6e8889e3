import pytest

from dispatch.config import Settings
from dispatch.errors import Conflict, TooBusy
from dispatch.streams import keys
from tests.streams.scene import Scene, lane_fields, new_lane


async def test_an_entry_wakes_each_of_its_lanes_in_one_step(scene: Scene) -> None:
    first, second = new_lane(), new_lane()
    thread_id = await scene.create()

    accepted = await scene.accept(thread_id, first, second)

    assert await scene.types(thread_id) == ["created", "chat", "queued", "queued"]
    assert [lane for _, lane in accepted.dispatches] == [first, second]
    assert accepted.dispatches[1][0] == f"{accepted.entry_id}.1"
    grace_ms = int(scene.settings.redeliver_after_seconds * 1000)
    assert scene.due() == {f"{thread_id}|{lane}": grace_ms for lane in (first, second)}


async def test_an_entry_for_nobody_still_moves_the_mark(scene: Scene) -> None:
    thread_id = await scene.create()

    accepted = await scene.accept(thread_id)

    assert accepted.dispatches == ()
    assert (await scene.state(thread_id)).mark == accepted.entry_id
    assert scene.due() == {}


async def test_a_lane_named_twice_is_woken_once(scene: Scene) -> None:
    lane = new_lane()
    thread_id = await scene.create()

    accepted = await scene.accept(thread_id, lane, lane)

    assert len(accepted.dispatches) == 1
    assert (await scene.state(thread_id)).lanes[str(lane)].queue == (accepted.dispatches[0][0],)


async def test_the_same_key_answers_the_same_entry(scene: Scene) -> None:
    lane = new_lane()
    thread_id = await scene.create()
    first = await scene.accept(thread_id, lane)

    again = await scene.accept(thread_id, lane)

    assert again.duplicate
    assert (again.entry_id, again.dispatches) == (first.entry_id, first.dispatches)
    assert await scene.types(thread_id) == ["created", "chat", "queued"]


async def test_a_key_stands_for_one_body(scene: Scene) -> None:
    thread_id = await scene.create()
    await scene.accept(thread_id)

    with pytest.raises(Conflict) as refused:
        await scene.accept(thread_id, text="something else")

    assert refused.value.reason == "key_reused"
    assert await scene.types(thread_id) == ["created", "chat"]


async def test_keys_are_forgotten_when_their_time_is_over(scene: Scene) -> None:
    thread_id = await scene.create()
    await scene.accept(thread_id, key="old")
    scene.clock.advance(scene.settings.idempotency_seconds)

    await scene.accept(thread_id, key="new")

    assert scene.redis.hlen(keys.idempotency(thread_id)) == 1
    assert scene.redis.zcard(keys.idempotency_ages(thread_id)) == 1
    assert (
        0 < scene.redis.ttl(keys.idempotency(thread_id)) <= scene.settings.idempotency_seconds
    )
    assert not (await scene.accept(thread_id, key="old")).duplicate


async def test_one_full_lane_refuses_the_entry_for_all(scene: Scene) -> None:
    full, free = new_lane(), new_lane()
    thread_id = await scene.create()
    one = Settings(max_queue_depth=1)
    await scene.accept(thread_id, full, key="1", settings=one)
    before = await scene.fields(thread_id)

    with pytest.raises(TooBusy):
        await scene.accept(thread_id, free, full, key="2", settings=one)

    assert await scene.fields(thread_id) == before
    assert f"{thread_id}|{free}" not in scene.due()


async def test_a_full_stream_takes_no_more_entries(scene: Scene) -> None:
    thread_id = await scene.create()

    with pytest.raises(Conflict) as refused:
        await scene.accept(thread_id, settings=Settings(max_stream_entries=1))

    assert refused.value.reason == "stream_full"
    assert await scene.types(thread_id) == ["created"]


async def test_an_entry_behind_a_run_waits_without_a_clock(scene: Scene) -> None:
    lane = new_lane()
    thread_id = await scene.create()
    await scene.accept(thread_id, lane, key="1")
    await scene.hold(thread_id, lane)

    await scene.accept(thread_id, lane, key="2")

    assert "since" not in lane_fields(await scene.fields(thread_id), lane)
    assert list(scene.due().values()) == [int(scene.settings.lease_seconds * 1000)]


async def test_the_next_entry_makes_a_failed_chat_well_again(scene: Scene) -> None:
    lane = new_lane()
    thread_id = await scene.create()
    await scene.accept(thread_id, lane, key="1")
    scene.clock.advance(scene.settings.start_timeout_seconds)
    await scene.expire(thread_id, lane)
    assert (await scene.state(thread_id)).outcome == "orphaned"

    await scene.accept(thread_id, key="2")

    assert (await scene.state(thread_id)).outcome is None
