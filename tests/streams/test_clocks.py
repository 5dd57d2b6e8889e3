"""Liveness and progress are two clocks; checkpoints and retries; a Redis that forgot."""

import pytest
from msgspec.structs import replace
from redis import Redis

from dispatch.config import Settings
from dispatch.errors import Fenced
from dispatch.ids import BEGINNING
from dispatch.models import policies
from dispatch.models.fold import fold
from dispatch.models.state import to_fields
from dispatch.payloads.policy import DispatchPolicy
from dispatch.payloads.signals import (
    Checkpoint,
    Failed,
    NoProgress,
    RunLost,
    Started,
    StreamRollback,
)
from dispatch.streams import keys
from dispatch.streams.runs import Claimed, Fence
from tests.streams.scene import ASSISTANT, CHUNK, Scene, new_lane


class Turn:
    """A thread with one dispatch that runs."""

    def __init__(self, scene: Scene, **policy) -> None:
        self.scene = scene
        self.lane = new_lane()
        self.policy = replace(policies.of({}, scene.settings), **policy)

    async def begin(self) -> "Turn":
        self.thread_id = await self.scene.create()
        await self.scene.accept(self.thread_id, self.lane, policy=self.policy)
        self.fence = await self.scene.hold(self.thread_id, self.lane)
        return self

    async def expire(self) -> str:
        word = await self.scene.expire(self.thread_id, self.lane)
        await self.same()
        return word

    async def beat_for(self, seconds: float) -> None:
        """Let time pass in the run's life: it beats, its agent is mute."""
        for _ in range(int(seconds // 60)):
            self.scene.clock.advance(60)
            await self.scene.renew(self.fence)

    async def same(self) -> None:
        state = fold(await self.scene.stream(self.thread_id))
        assert to_fields(state) == await self.scene.fields(self.thread_id)

    async def last(self, kind: type):
        said = await self.scene.said(self.thread_id)
        return [payload for payload in said if isinstance(payload, kind)][-1]


def checkpoint(fence: Fence, **state: int) -> Checkpoint:
    return Checkpoint(dispatch_id=fence.dispatch_id, run_id=fence.run_id, state=state)


async def test_a_mute_run_is_warned_then_stopped_then_failed(scene: Scene) -> None:
    turn = await Turn(scene, warn_ms=300_000, progress_ms=600_000).begin()
    since_ms = scene.clock.now_ms
    await turn.beat_for(240)
    assert await turn.expire() == "live"
    await turn.beat_for(60)
    assert await turn.expire() == "warned"
    assert await turn.expire() == "live"
    warning = await turn.last(NoProgress)
    assert (warning.since_ms, warning.deadline) == (since_ms, since_ms + 600_000)
    await turn.beat_for(300)
    assert await turn.expire() == "stopping"
    assert (await scene.renew(turn.fence)).cancel_reason == "no_progress"
    scene.clock.advance(scene.settings.cancel_grace_seconds)
    assert await turn.expire() == "failed"
    assert (await turn.last(Failed)).reason == "no_progress"


async def test_a_word_of_the_agent_is_progress(scene: Scene) -> None:
    turn = await Turn(scene, warn_ms=300_000, progress_ms=600_000).begin()
    await turn.beat_for(300)
    assert await turn.expire() == "warned"
    await scene.append(turn.fence, 1, CHUNK)
    await turn.beat_for(240)
    assert await turn.expire() == "live"
    await turn.beat_for(60)
    assert await turn.expire() == "warned"


async def test_a_run_that_lives_beyond_its_hard_limit_is_never_repeated(scene: Scene) -> None:
    turn = await Turn(scene, run_timeout_ms=120_000, warn_ms=0, progress_ms=0).begin()
    await turn.beat_for(120)
    assert await turn.expire() == "failed"
    assert (await turn.last(Failed)).reason == "run_timeout"


async def test_what_a_checkpoint_covers_is_not_done_again(scene: Scene) -> None:
    turn = await Turn(scene).begin()
    await scene.append(turn.fence, 1, CHUNK, ASSISTANT, checkpoint(turn.fence, done=1))
    await turn.same()
    scene.clock.advance(scene.settings.lease_seconds)
    assert await turn.expire() == "lost"
    scene.clock.advance(1)
    claimed = await scene.claim(turn.thread_id, turn.lane)
    assert isinstance(claimed, Claimed)
    assert b'"state":{"done":1}' in claimed.checkpoint
    assert (await turn.last(Started)).checkpoint_id is not None
    await scene.append(claimed.fence, 1, ASSISTANT)
    scene.clock.advance(scene.settings.lease_seconds)
    assert await turn.expire() == "failed"
    assert (await turn.last(Failed)).reason == "orphaned"


async def test_a_repeatable_turn_is_tried_again_after_effects(scene: Scene) -> None:
    turn = await Turn(scene, repeatable=True, max_attempts=2).begin()
    await scene.append(turn.fence, 1, ASSISTANT)
    scene.clock.advance(scene.settings.lease_seconds)
    assert await turn.expire() == "lost"
    assert (await turn.last(RunLost)).effects


async def test_a_broken_run_is_tried_again_while_nothing_was_seen(scene: Scene) -> None:
    turn = await Turn(scene, max_attempts=2).begin()
    assert await scene.retry(turn.fence) == "retried"
    await turn.same()
    lost = await turn.last(RunLost)
    assert (lost.reason, lost.message) == ("error", "broke")
    with pytest.raises(Fenced):
        await scene.retry(turn.fence)
    scene.clock.advance(1)
    second = await scene.hold(turn.thread_id, turn.lane)
    assert await scene.retry(second) == "exhausted"
    await scene.cancel(turn.thread_id, second.dispatch_id)
    assert await scene.retry(second) == await scene.release(second) == "cancelling"


async def test_after_a_restart_nothing_is_written_before_the_row_was_asked(
    scene: Scene,
) -> None:
    turn = await Turn(scene).begin()
    mark = (await scene.state(turn.thread_id)).mark
    scene.restart_redis()
    for call in (
        scene.append(turn.fence, 1, CHUNK),
        scene.renew(turn.fence),
        scene.finish(turn.fence, 1),
        scene.release(turn.fence),
        scene.expire(turn.thread_id, turn.lane),
        scene.claim(turn.thread_id, turn.lane),
        scene.cancel(turn.thread_id, turn.fence.dispatch_id),
        scene.accept(turn.thread_id, turn.lane, key="other"),
    ):
        assert await scene.hear(call) == "RESTARTED"
    assert (await scene.state(turn.thread_id)).mark == mark
    assert not await scene.revalidate(turn.thread_id, mark)
    await scene.append(turn.fence, 1, CHUNK)


async def test_a_stream_shorter_than_its_row_remembers_says_so_and_fails_its_work(
    scene: Scene, redis: "Redis"
) -> None:
    turn = await Turn(scene).begin()
    await scene.accept(turn.thread_id, turn.lane, key="waits")
    kept = redis.dump(keys.stream(turn.thread_id)), redis.dump(keys.state(turn.thread_id))
    await scene.finish(turn.fence, 1)
    witness = (await scene.state(turn.thread_id)).mark
    redis.restore(keys.stream(turn.thread_id), 0, kept[0], replace=True)
    redis.restore(keys.state(turn.thread_id), 0, kept[1], replace=True)
    scene.restart_redis()

    assert await scene.revalidate(turn.thread_id, witness)

    await turn.same()
    stream = await scene.stream(turn.thread_id)
    assert all(entry.id > witness for entry in stream[-5:])
    assert (await scene.types(turn.thread_id))[-5:] == [
        "stream_rollback",
        *["failed", "pi_session_orphaned"] * 2,
    ]
    assert {each.reason for each in await scene.said(turn.thread_id) if type(each) is Failed}
    assert scene.due() == {}
    with pytest.raises(Fenced):
        await scene.append(turn.fence, 1, CHUNK)
    assert not await scene.revalidate(turn.thread_id, witness)


async def test_a_stream_that_is_gone_begins_anew_beyond_what_the_row_saw(scene: Scene) -> None:
    turn = await Turn(scene).begin()
    witness = (await scene.state(turn.thread_id)).mark
    for key in scene.keys_of(turn.thread_id):
        scene.redis.delete(key)

    assert await scene.revalidate(turn.thread_id, witness, was_running=True)

    (entry,) = await scene.stream(turn.thread_id)
    assert isinstance(entry.payload, StreamRollback)
    assert (entry.payload.witness, entry.payload.kept) == (witness, None)
    assert entry.id > witness > BEGINNING
    assert (await scene.state(turn.thread_id)).outcome == "orphaned"
    await turn.same()


def test_limits_of_an_agents_config_are_read_in_seconds() -> None:
    defaults = policies.of({}, Settings())
    chosen = policies.of({"maxAttempts": 5, "progressTimeoutSeconds": 0}, Settings())
    assert defaults == DispatchPolicy(max_attempts=3)
    assert (chosen.max_attempts, chosen.progress_ms) == (5, 0)
