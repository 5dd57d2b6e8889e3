"""What works for a turn ends with it when an entry takes the turn's place."""

import pytest

from dispatch.errors import Unavailable
from dispatch.ids import DispatchId, ThreadId
from dispatch.models.houses import WhenBusy
from dispatch.operations import post_as_service, post_entry
from dispatch.operations.post_as_service import ServiceEntry
from dispatch.payloads.signals import Cancelled, Completed
from dispatch.stores.postgres import cancellations
from tests.operations.test_cancellations import last, owed, queued, running, sub_job
from tests.system.houses import Casa
from workers.sweeps import cancellations as sweep

CANCELLED = "signal.dispatch.cancelled"
QUEUED = "signal.dispatch.queued"


async def interrupt(casa: Casa, thread_id: ThreadId, when_busy: WhenBusy = "interrupt") -> None:
    draft = post_entry.Draft("@demo stop that", when_busy=when_busy)
    await post_entry.post_entry(casa.record, casa.who, thread_id, draft, key="k")


async def with_sub_job(casa: Casa) -> tuple[ThreadId, DispatchId, ThreadId]:
    """Let a turn run, and something work for it."""
    top = await casa.dm()
    dispatch_id, _ = await running(casa, top)
    child = await sub_job(casa, top, dispatch_id)
    await queued(casa, child)
    return top, dispatch_id, child


@pytest.mark.parametrize("when_busy", ["interrupt", "rollback"])
async def test_an_interrupted_turn_takes_what_works_for_it_along(
    casa: Casa, when_busy: WhenBusy
) -> None:
    top, _, child = await with_sub_job(casa)
    await interrupt(casa, top, when_busy)
    assert await owed(casa) == 1
    await sweep.sweep(casa.record)
    told = (await casa.entries(child))[-1].payload
    assert isinstance(told, Cancelled)
    assert told.by is not None
    assert told.by.name == "Ada"


async def test_the_interrupting_turns_own_work_is_not_touched(casa: Casa) -> None:
    top, _, child = await with_sub_job(casa)
    await interrupt(casa, top)
    aside = await sub_job(casa, top)
    await queued(casa, aside)
    await sweep.sweep(casa.record)
    assert (await last(casa, child), await last(casa, aside)) == (CANCELLED, QUEUED)


async def test_a_service_that_interrupts_is_named_by_what_it_cancelled(casa: Casa) -> None:
    top, _, child = await with_sub_job(casa)
    entry = ServiceEntry(
        thread_id=top,
        draft=post_entry.Draft("@demo stop that", when_busy="interrupt"),
        key="k",
        service="billing",
    )
    await post_as_service.post_as_service(casa.record, entry)
    await sweep.sweep(casa.record)
    told = (await casa.entries(child))[-1].payload
    assert isinstance(told, Cancelled)
    assert told.by is not None
    assert (told.by.kind, told.by.id) == ("service", "billing")


@pytest.mark.parametrize("when_busy", ["enqueue", "steer", "write"])
async def test_an_entry_that_interrupts_nothing_cancels_nothing(
    casa: Casa, when_busy: WhenBusy
) -> None:
    top, _, child = await with_sub_job(casa)
    await interrupt(casa, top, when_busy)
    await interrupt(casa, await casa.dm())
    await sweep.sweep(casa.record)
    assert await last(casa, child) == QUEUED


async def test_a_repeat_does_what_a_death_left_and_later_means_no_more(
    casa: Casa, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = await casa.dm()
    dispatch_id, writer = await running(casa, top)
    child = await sub_job(casa, top, dispatch_id)
    await queued(casa, child)

    async def dies(*_: object, **__: object) -> None:
        raise Unavailable("Postgres")

    with monkeypatch.context() as dying:
        dying.setattr(cancellations, "insert_for", dies)
        with pytest.raises(Unavailable):
            await interrupt(casa, top)
    assert await owed(casa) == 0
    await writer.finish(Completed(dispatch_id=dispatch_id, run_id=writer.fence.run_id))
    later = await queued(casa, child)
    await interrupt(casa, top)
    await sweep.sweep(casa.record)
    assert await owed(casa) == 0
    assert list((await casa.state(child)).dispatches) == [later]
