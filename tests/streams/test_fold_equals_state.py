"""The state hash is the fold of the stream, in a life with everything in it."""

from redis import Redis

from dispatch.config import Settings
from dispatch.models.fold import fold
from dispatch.models.state import from_fields, to_fields
from dispatch.streams.connection import Connection
from tests.streams.scene import ASSISTANT, CHUNK, Scene, new_lane
from tests.streams.simulated import Heard


async def test_the_hash_is_the_fold_through_a_whole_life(scene: Scene) -> None:
    lane = new_lane()
    thread_id = await scene.create()
    await scene.accept(thread_id, lane, key="1")
    second = await scene.accept(thread_id, lane, new_lane(), key="2")
    await _same(scene, thread_id)
    fence = await scene.hold(thread_id, lane)
    await scene.renew(fence)
    await scene.renew(fence)
    await scene.append(fence, 1, CHUNK, ASSISTANT, CHUNK)
    await _same(scene, thread_id)
    await scene.finish(fence, 4, ASSISTANT)
    await _same(scene, thread_id)
    fence = await scene.hold(thread_id, lane)
    await scene.release(fence)
    await _same(scene, thread_id)
    fence = await scene.hold(thread_id, lane)
    scene.clock.advance(91)
    assert await scene.expire(thread_id, lane) == "lost"
    await _same(scene, thread_id)
    for dispatch_id, _ in second.dispatches:
        await scene.cancel(thread_id, dispatch_id)
        await _same(scene, thread_id)


async def test_the_hash_is_the_fold_on_redis_own_clock(stream_url: str, redis: "Redis") -> None:
    connection = Connection(stream_url, timeout_seconds=5)
    settings = Settings().model_copy(update={"worker_dead_seconds": 0.0})
    scene = Scene(connection, Heard(connection, clock=None), redis, settings)
    lane = new_lane()
    thread_id = await scene.create()
    await scene.accept(thread_id, lane, key="1")
    await scene.accept(thread_id, lane, key="2")
    fence = await scene.hold(thread_id, lane)
    await scene.append(fence, 1, CHUNK, ASSISTANT)
    await scene.renew(fence)
    await _same(scene, thread_id)
    await scene.finish(fence, 3)
    fence = await scene.hold(thread_id, lane)
    assert await scene.expire(thread_id, lane, fence.run_id) == "lost"
    await _same(scene, thread_id)
    await scene.close()


async def _same(scene: Scene, thread_id) -> None:
    fields = await scene.fields(thread_id)
    state = fold(await scene.stream(thread_id))
    assert to_fields(state) == fields
    assert from_fields(fields) == state
