"""Each busy policy on a real worker, in the middle of a real turn."""

import pytest

from dispatch import payloads
from dispatch.errors import Conflict
from dispatch.ids import DispatchId, ThreadId
from dispatch.models.houses import WhenBusy
from dispatch.operations import withdraw
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    EntryWritten,
    FellThrough,
    RolledBack,
    Started,
    Steered,
)
from dispatch.streams.threads import Accepted
from tests.system.houses import Casa
from tests.system.processes import Processes

COMPLETED = "signal.dispatch.completed"
STEERED = "signal.dispatch.steered"


async def in_a_turn(
    casa: Casa, processes: Processes, order: str
) -> tuple[ThreadId, DispatchId]:
    """Let a worker begin a turn; return its thread and dispatch."""
    processes.start_worker()
    thread_id = await casa.dm()
    accepted = await casa.post(thread_id, order)
    await casa.wait(thread_id, lambda types: "signal.dispatch.started" in types)
    return thread_id, dispatch_of(accepted)


def dispatch_of(accepted: Accepted) -> DispatchId:
    ((dispatch_id, _),) = accepted.dispatches
    return dispatch_id


async def starts(casa: Casa, thread_id: ThreadId) -> list[str]:
    """Return the dispatches that were started, in order."""
    found = [each.payload for each in await casa.entries(thread_id)]
    return [each.dispatch_id for each in found if isinstance(each, Started)]


async def said(casa: Casa, thread_id: ThreadId) -> list[payloads.Payload]:
    return [each.payload for each in await casa.entries(thread_id)]


async def test_enqueue_waits_for_the_turns_end(casa: Casa, processes: Processes) -> None:
    thread_id, first = await in_a_turn(casa, processes, "sleep: 3")
    second = dispatch_of(await casa.post(thread_id, "and then?"))
    types = await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert await starts(casa, thread_id) == [first, second]
    assert "signal.dispatch.cancel_requested" not in types


async def test_reject_leaves_the_turn_alone(casa: Casa, processes: Processes) -> None:
    thread_id, first = await in_a_turn(casa, processes, "sleep: 3")
    with pytest.raises(Conflict) as refused:
        await casa.post(thread_id, "now!", when_busy="reject")
    assert (refused.value.reason, refused.value.fields["dispatchId"]) == ("busy", first)
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count("chat") == 1


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_an_entry_takes_the_place_of_the_turn_and_goes_before_the_queue(
    casa: Casa, processes: Processes, policy: WhenBusy
) -> None:
    thread_id, first = await in_a_turn(casa, processes, "sleep: 600")
    waiting = dispatch_of(await casa.post(thread_id, "I wait"))
    newest = dispatch_of(await casa.post(thread_id, "no, this", when_busy=policy))
    await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert await starts(casa, thread_id) == [first, newest, waiting]
    reasons = [
        each.reason for each in await said(casa, thread_id) if isinstance(each, Cancelled)
    ]
    assert reasons == ["interrupted" if policy == "interrupt" else "rolled_back"]
    undone = [e.dispatch_id for e in await said(casa, thread_id) if isinstance(e, RolledBack)]
    assert undone == ([] if policy == "interrupt" else [first])
    await casa.wait_status(thread_id, "open")


async def test_a_turn_takes_in_what_steers_it(casa: Casa, processes: Processes) -> None:
    thread_id, first = await in_a_turn(casa, processes, "steps: 4")
    posted = await casa.post(thread_id, "in English", when_busy="steer")
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    found = await said(casa, thread_id)
    (steered,) = [each for each in found if isinstance(each, Steered)]
    assert (steered.dispatch_id, steered.into) == (dispatch_of(posted), first)
    after = found[found.index(steered) :]
    heard = [each for each in after if isinstance(each, Assistant)]
    assert "You steered me: “in English”" in str(heard[0].message)
    assert [each.dispatch_id for each in found if isinstance(each, Completed)] == [first]
    assert await starts(casa, thread_id) == [first]
    await casa.wait_status(thread_id, "open")


async def test_what_no_turn_takes_in_becomes_a_turn(casa: Casa, processes: Processes) -> None:
    thread_id, first = await in_a_turn(casa, processes, "sleep: 3")
    posted = dispatch_of(await casa.post(thread_id, "in English", when_busy="steer"))
    types = await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert STEERED not in types
    fallen = [each for each in await said(casa, thread_id) if isinstance(each, FellThrough)]
    assert [(each.dispatch_id, each.target) for each in fallen] == [(posted, first)]
    assert await starts(casa, thread_id) == [first, posted]


async def test_write_asks_for_no_turn(casa: Casa, processes: Processes) -> None:
    thread_id, first = await in_a_turn(casa, processes, "sleep: 3")
    accepted = await casa.post(thread_id, "for the record", when_busy="write")
    assert accepted.dispatches == ()
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    written = [each for each in await said(casa, thread_id) if isinstance(each, EntryWritten)]
    assert [each.active_dispatch_id for each in written] == [first]
    await casa.wait_status(thread_id, "open")
    assert await starts(casa, thread_id) == [first]


async def test_a_withdrawn_entry_never_starts_and_the_queue_goes_on(
    casa: Casa, processes: Processes
) -> None:
    thread_id, first = await in_a_turn(casa, processes, "sleep: 3")
    doomed = await casa.post(thread_id, "oops")
    last = dispatch_of(await casa.post(thread_id, "this one"))
    done = await withdraw.withdraw(casa.record, casa.who, thread_id, doomed.entry_id)
    assert (done.withdrawn, done.delivered) == ((dispatch_of(doomed),), ())
    await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert await starts(casa, thread_id) == [first, last]


async def test_the_queue_goes_on_after_a_turn_that_failed(
    casa: Casa, processes: Processes
) -> None:
    thread_id = await casa.dm()
    failing = dispatch_of(await casa.post(thread_id, "fail: on purpose"))
    following = dispatch_of(await casa.post(thread_id, "hello"))
    processes.start_worker()
    await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert await starts(casa, thread_id) == [failing, following]
