"""The state hash is the fold of the stream, in a life with everything in it."""

from dispatch.models.fold import fold
from dispatch.models.state import from_fields, to_fields
from tests.streams.scene import ASSISTANT, CHUNK, Scene, new_lane


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


async def _same(scene: Scene, thread_id) -> None:
    fields = await scene.fields(thread_id)
    state = fold(await scene.stream(thread_id))
    assert to_fields(state) == fields
    assert from_fields(fields) == state
