"""Tasks end with whoever wants them."""

import asyncio
from collections.abc import Iterator

import pytest

from dispatch.ids import ThreadId
from dispatch.operations import (
    cancel_many,
    delete_thread,
    reconcile,
)
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import (
    Cancelled,
    DelegationEnded,
    Failed,
)
from dispatch.streams import runs
from tests.operations.giving import (
    WORKER,
    acted,
    agent,
    begun,
    children,
    gives,
    of,
    run,
)
from tests.system.houses import Casa
from workers.sweeps import cancellations as cancelling
from workers.sweeps import reconcile as sweeping


@pytest.fixture(autouse=True)
def acting(casa: Casa) -> Iterator[None]:
    with acted(casa):
        yield


@pytest.mark.parametrize("how", ["dispatch", "thread", "house"])
async def test_a_cancel_takes_the_tasks_along(casa: Casa, how: str) -> None:
    await agent(casa, "lead", gives(("helper", "one"), ("helper", "two")))
    await agent(casa, "helper")
    top, dispatch_id = await begun(casa)
    if how == "dispatch":
        await cancel_many.cancel_dispatch(casa.record, casa.who, top, dispatch_id)
    elif how == "thread":
        await cancel_many.cancel_thread(casa.record, casa.who, top)
    else:
        await cancel_many.cancel_house(casa.record, casa.who)
    await sweeping.sweep(casa.record)
    await cancelling.sweep(casa.record)
    for child in await children(casa, top):
        assert child.status == "cancelled"
        assert len(await of(casa, child.id, Cancelled)) == 1
    assert not await of(casa, top, DelegationEnded)


async def test_a_delete_takes_the_tasks_along(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one")))
    await agent(casa, "helper")
    top, _ = await begun(casa)
    [child] = await children(casa, top)
    await delete_thread.delete_thread(casa.record, casa.who, top)
    assert await casa.entries(child.id) == []


async def test_a_turn_that_fails_takes_its_tasks_along(casa: Casa) -> None:
    await agent(casa, "lead", gives(("helper", "one"), maxAttempts=1))
    await agent(casa, "helper", gives(("third", "two")))
    await agent(casa, "third")
    top, _ = await begun(casa)
    [child] = await children(casa, top)
    await run(casa, child.id)
    [grandchild] = await children(casa, child.id)
    await _orphan(casa, top)
    for _ in range(2):  # the task's end takes its own tasks along
        await cancelling.sweep(casa.record)
    assert [(await casa.row(each.id)).status for each in (child, grandchild)] == [
        "cancelled",
        "cancelled",
    ]


async def _orphan(casa: Casa, thread_id: ThreadId) -> None:
    """Let a waiting turn be taken up by a worker that is never heard again."""
    record = casa.record
    [lane] = (await casa.state(thread_id)).lanes
    key = f"{{arbe-thread-{thread_id}}}:state"
    [dispatch_id] = (await casa.state(thread_id)).dispatches
    text = (await record.connection.call("HGET", key, f"dispatch:{dispatch_id}")).decode()
    lane_id, attempt, most, _, rest = text.split(",", 4)
    due = f"{lane_id},{attempt},{most},0,{rest}"
    await record.connection.call("HSET", key, f"dispatch:{dispatch_id}", due)
    claimed = await runs.claim(
        record.scripts,
        thread_id,
        type(casa.agent.id)(lane),
        run_id=runs.RunId("0123456789ab"),
        worker_id=WORKER,
        lease_seconds=0.001,
    )
    assert isinstance(claimed, runs.Claimed)
    await asyncio.sleep(0.01)
    await reconcile.reconcile(record, thread_id)
    [failed] = await of(casa, thread_id, Failed)
    assert failed.reason == "attempts_exhausted"


async def test_a_task_whose_giver_has_ended_does_not_begin(casa: Casa) -> None:
    """A worker that was paused gives a task after its turn was ended."""
    await agent(casa, "lead", gives(("helper", "one")))
    await agent(casa, "helper")
    top, dispatch_id = await begun(casa)
    [child] = await children(casa, top)
    await cancel_many.cancel_dispatch(casa.record, casa.who, top, dispatch_id, cascade=False)
    await run(casa, child.id)
    [ended] = await of(casa, child.id, Cancelled)
    assert ended.reason == "cascade"
    assert not await of(casa, child.id, Assistant)
