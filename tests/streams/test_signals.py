"""Signals that no run writes: told once under a key, and what a key took stays taken."""

import pytest

from dispatch.errors import Conflict, Gone, NotFound
from dispatch.ids import ThreadId, uuid7
from dispatch.models.fold import fold
from dispatch.models.state import to_fields
from dispatch.payloads.signals import HopLimit
from dispatch.streams import keys, threads
from tests.streams.scene import Scene, new_lane

TOLD = HopLimit(dispatch_id="d", entry_id="e", mentions=("b",), reason="hops", limit=4)


async def tell(scene: Scene, thread_id: ThreadId, key: str) -> None:
    await threads.signal_once(scene.scripts, thread_id, TOLD, key=key, idempotency_seconds=3600)


async def test_under_a_key_it_is_told_once(scene: Scene) -> None:
    thread_id = await scene.create()
    for _ in range(2):
        await tell(scene, thread_id, "k")
    await tell(scene, thread_id, "other")
    assert (await scene.types(thread_id)).count("hop_limit") == 2
    assert 0 < scene.redis.ttl(keys.idempotency(thread_id)) <= 3600
    assert 0 < scene.redis.ttl(keys.idempotency_ages(thread_id)) <= 3600


async def test_it_changes_nothing_but_the_sequence(scene: Scene) -> None:
    thread_id = await scene.create()
    before = await scene.state(thread_id)
    await tell(scene, thread_id, "k")
    after = await scene.state(thread_id)
    assert (after.mark, after.outcome, after.seq) == (
        before.mark,
        before.outcome,
        before.seq + 1,
    )
    assert to_fields(fold(await scene.stream(thread_id))) == to_fields(after)


async def test_a_key_is_an_entrys_or_a_signals_never_both(scene: Scene) -> None:
    thread_id, lane = await scene.create(), new_lane()
    await scene.accept(thread_id, lane, key="a")
    await tell(scene, thread_id, "a")
    assert "hop_limit" not in await scene.types(thread_id)
    await tell(scene, thread_id, "b")
    with pytest.raises(Conflict) as refused:
        await scene.accept(thread_id, lane, key="b")
    assert refused.value.reason == "key_reused"


async def test_no_thread_no_signal(scene: Scene) -> None:
    with pytest.raises(NotFound):
        await tell(scene, ThreadId(uuid7()), "k")
    thread_id = await scene.create()
    await threads.delete(scene.scripts, thread_id, tombstone_seconds=60)
    with pytest.raises(Gone):
        await tell(scene, thread_id, "k")
