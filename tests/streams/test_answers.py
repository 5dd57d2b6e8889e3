"""What every transition answers in every state a lane can be in: one cell, one test."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from dispatch import ids
from dispatch.ids import AgentId, DispatchId, RunId, ThreadId
from dispatch.models.fold import fold
from dispatch.models.state import to_fields
from dispatch.streams.runs import Fence
from tests.streams.scene import ASSISTANT, Scene, new_lane


@dataclass
class Situation:
    """A lane in some state. `fence` is its last holder's; made up where nobody ever held it."""

    thread_id: ThreadId
    lane: AgentId
    dispatch_id: DispatchId
    fence: Fence
    n: int = 1

    @property
    def zombie(self) -> Fence:
        """Somebody else who says to hold the same attempt."""
        return Fence(
            self.thread_id, self.lane, self.dispatch_id, self.fence.attempt, ids.new_run_id()
        )


def nowhere(thread_id: ThreadId, lane: AgentId) -> Situation:
    dispatch_id = DispatchId("000000000000001_0000000001.0")
    return Situation(
        thread_id, lane, dispatch_id, Fence(thread_id, lane, dispatch_id, 1, RunId("f" * 12))
    )


async def no_thread(scene: Scene) -> Situation:
    return nowhere(ThreadId(ids.uuid7()), new_lane())


async def empty(scene: Scene) -> Situation:
    return nowhere(await scene.create(), new_lane())


async def queued(scene: Scene) -> Situation:
    at = await empty(scene)
    accepted = await scene.accept(at.thread_id, at.lane)
    at.dispatch_id = accepted.dispatches[0][0]
    at.fence = Fence(at.thread_id, at.lane, at.dispatch_id, 1, RunId("f" * 12))
    return at


async def running(scene: Scene) -> Situation:
    at = await queued(scene)
    at.fence = await scene.hold(at.thread_id, at.lane)
    return at


async def effects(scene: Scene) -> Situation:
    at = await running(scene)
    await scene.append(at.fence, 1, ASSISTANT)
    at.n = 2
    return at


async def lease_over(scene: Scene) -> Situation:
    at = await running(scene)
    scene.clock.advance(scene.settings.lease_seconds)
    return at


async def lease_over_effects(scene: Scene) -> Situation:
    at = await effects(scene)
    scene.clock.advance(scene.settings.lease_seconds)
    return at


async def backing_off(scene: Scene) -> Situation:
    at = await lease_over(scene)
    await scene.expire(at.thread_id, at.lane)
    return at


async def requeued(scene: Scene) -> Situation:
    at = await backing_off(scene)
    scene.clock.advance(scene.settings.retry_backoff_seconds)
    return at


async def released(scene: Scene) -> Situation:
    at = await running(scene)
    await scene.release(at.fence)
    return at


async def never_started(scene: Scene) -> Situation:
    at = await queued(scene)
    scene.clock.advance(scene.settings.start_timeout_seconds)
    return at


async def done(scene: Scene) -> Situation:
    at = await running(scene)
    await scene.finish(at.fence, 1)
    return at


async def orphaned(scene: Scene) -> Situation:
    at = await lease_over_effects(scene)
    await scene.expire(at.thread_id, at.lane)
    return at


async def cancel_asked(scene: Scene) -> Situation:
    at = await running(scene)
    await scene.cancel(at.thread_id, at.dispatch_id)
    return at


async def grace_over(scene: Scene) -> Situation:
    at = await cancel_asked(scene)
    scene.clock.advance(scene.settings.cancel_grace_seconds)
    return at


async def deleted(scene: Scene) -> Situation:
    at = await running(scene)
    await scene.delete(at.thread_id)
    return at


async def _expire_dead(scene: Scene, at: Situation) -> str:
    scene.clock.advance(scene.settings.worker_dead_seconds)
    return await scene.expire(at.thread_id, at.lane, at.fence.run_id)


Operation = Callable[[Scene, Situation], Awaitable[object]]
OPERATIONS: dict[str, Operation] = {
    "accept": lambda scene, at: scene.accept(at.thread_id, at.lane, key="other"),
    "same_key": lambda scene, at: scene.accept(at.thread_id, at.lane),
    "claim": lambda scene, at: scene.claim(at.thread_id, at.lane),
    "append": lambda scene, at: scene.append(at.fence, at.n, ASSISTANT),
    "append_z": lambda scene, at: scene.append(at.zombie, at.n, ASSISTANT),
    "renew": lambda scene, at: scene.renew(at.fence),
    "renew_z": lambda scene, at: scene.renew(at.zombie),
    "finish": lambda scene, at: scene.finish(at.fence, at.n),
    "finish_z": lambda scene, at: scene.finish(at.zombie, at.n),
    "release": lambda scene, at: scene.release(at.fence),
    "release_z": lambda scene, at: scene.release(at.zombie),
    "expire": lambda scene, at: scene.expire(at.thread_id, at.lane),
    "expire_dead": _expire_dead,
    "cancel": lambda scene, at: scene.cancel(at.thread_id, at.dispatch_id),
}
HEADS = list(OPERATIONS)
O, D, F, R = "OK", "DUPLICATE", "FENCED", "REQUESTED"  # noqa: E741
State = Callable[[Scene], Awaitable[Situation]]
NO, YES = ["FENCED"] * 8, ["OK", "FENCED"] * 4
"""append, renew, finish, release, each by the holder and by a zombie."""
SPOILT = [*["OK", "FENCED"] * 3, "EFFECTS", "FENCED"]
ASKED = [*["OK", "FENCED"] * 3, "CANCELLING", "FENCED"]
ENDED = [*["FENCED"] * 4, "DUPLICATE", *["FENCED"] * 3]
ANSWERS: dict[State, list[str]] = {
    # accept, same key, claim, (the eight), expire, expire when the worker is long dead, cancel
    no_thread: ["NO_THREAD"] * 14,
    deleted: ["GONE"] * 14,
    empty: ["OK", "OK", "NONE", *NO, "NONE", "NONE", "NONE"],
    queued: ["OK", "DUPLICATE", "OK", *NO, "HINT", "HINT", "CANCELLED"],
    running: ["OK", "DUPLICATE", "BUSY", *YES, "LIVE", "LOST", "REQUESTED"],
    effects: ["OK", "DUPLICATE", "BUSY", *SPOILT, "LIVE", "FAILED", "REQUESTED"],
    lease_over: ["OK", "DUPLICATE", "EXPIRED", *YES, "LOST", "LOST", "REQUESTED"],
    lease_over_effects: [
        "OK",
        "DUPLICATE",
        "EXPIRED",
        *SPOILT,
        "FAILED",
        "FAILED",
        "REQUESTED",
    ],
    backing_off: ["OK", "DUPLICATE", "WAIT", *NO, "WAIT", "HINT", "CANCELLED"],
    requeued: ["OK", "DUPLICATE", "OK", *NO, "HINT", "HINT", "CANCELLED"],
    released: ["OK", "DUPLICATE", "OK", *NO, "HINT", "HINT", "CANCELLED"],
    never_started: ["OK", "DUPLICATE", "OK", *NO, "FAILED", "FAILED", "CANCELLED"],
    done: ["OK", "DUPLICATE", "NONE", *ENDED, "NONE", "NONE", "NONE"],
    orphaned: ["OK", "DUPLICATE", "NONE", *NO, "NONE", "NONE", "NONE"],
    cancel_asked: ["OK", "DUPLICATE", "BUSY", *ASKED, "LIVE", "CANCELLED", "REQUESTED"],
    grace_over: ["OK", "DUPLICATE", "EXPIRED", *ASKED, "CANCELLED", "CANCELLED", "REQUESTED"],
}
CELLS = [
    pytest.param(state, head, answer, id=f"{state.__name__}-{head}")
    for state, row in ANSWERS.items()
    for head, answer in zip(HEADS, row, strict=True)
]


@pytest.mark.parametrize(("state", "operation", "answer"), CELLS)
async def test_each_transition_answers_by_the_table(
    scene: Scene,
    state: State,
    operation: str,
    answer: str,
) -> None:
    at = await state(scene)

    assert await scene.hear(OPERATIONS[operation](scene, at)) == answer

    entries = await scene.stream(at.thread_id)
    fields = await scene.fields(at.thread_id)
    fields = {} if "deleted" in fields else fields
    assert to_fields(fold(entries)) == fields
    has_work = any(name.startswith(("queue:", "run:")) for name in fields)
    assert (f"{at.thread_id}|{at.lane}" in scene.due()) == has_work
