"""Repair one thread: end what its clocks say is over, then bring its row up to date.

Runs on every GET of a thread, on demand, and in the sweeps. Safe twice at once.
"""

from uuid import UUID

import msgspec

from dispatch.ids import AgentId, ThreadId
from dispatch.models import state as states
from dispatch.models.state import Lane, ThreadState
from dispatch.models.threads import Thread, ThreadStatus
from dispatch.operations import delegations, project
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, threads
from dispatch.streams import entries, lanes
from dispatch.streams.lanes import LaneRef


class Reconciled(msgspec.Struct, frozen=True, rename="camel"):
    """What a reconcile found and left behind."""

    before: ThreadStatus
    after: ThreadStatus

    @property
    def changed(self) -> bool:
        """Tell whether the row's status is another one now."""
        return self.before != self.after


async def reconcile(record: Record, thread_id: ThreadId) -> Reconciled:
    """Look at every lane of a thread that has work, then project its row if it lags.

    Raises: NotFound, Gone, Unavailable.
    """
    before = await _row(record, thread_id)
    if before.stream_id > (await _state(record, thread_id)).mark:
        # The row has seen more than there is.
        await record.revalidate(thread_id)
    state = await look_at_lanes(record, thread_id)
    if not state.is_open or before.stream_id >= state.mark:
        return Reconciled(before=before.status, after=before.status)
    await project.project(record, thread_id)
    after = await _row(record, thread_id)
    return Reconciled(before=before.status, after=after.status)


async def look_at_lanes(
    record: Record, thread_id: ThreadId, *, dry_run: bool = False
) -> ThreadState:
    """Do what the clocks of every lane with work demand; return the state after it."""
    state = await _state(record, thread_id)
    if dry_run or not state.has_work:
        return state
    for lane_id, lane in state.lanes.items():
        if lane.has_work:
            await look_at(record, LaneRef(thread_id, AgentId(UUID(lane_id))))
    return await _state(record, thread_id)


async def look_at(record: Record, ref: LaneRef) -> lanes.Verdict:
    """Do what one lane's clocks demand, counting a run of a dead worker process as over."""
    held = await lanes.holder(record.connection, ref)
    dead_run = None
    if held is not None:
        run_id, worker_id = held
        if await lanes.is_dead(
            record.connection,
            worker_id,
            dead_after_seconds=record.settings.worker_dead_seconds,
        ):
            dead_run = run_id
    found = await lanes.expire(record.scripts, ref, settings=record.settings, dead_run=dead_run)
    if found == "delegating":
        state = await _state(record, ref.thread_id)
        for dispatch_id in state.lanes.get(str(ref.lane), Lane()).queue[:1]:
            await delegations.look_at(record, ref.thread_id, dispatch_id)
    return found


async def _row(record: Record, thread_id: ThreadId) -> Thread:
    async with engine.as_worker(record.projector) as connection:
        return await threads.get(connection, thread_id=thread_id)


async def _state(record: Record, thread_id: ThreadId) -> ThreadState:
    return states.from_fields(await entries.state_fields(record.connection, thread_id))
