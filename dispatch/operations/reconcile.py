"""Repair one thread: end what its clocks say is over, then bring its row up to date.

Runs on every GET of a thread, on demand, and in the sweeps. Safe twice at once.
"""

from uuid import UUID

import msgspec

from dispatch.ids import AgentId, ThreadId
from dispatch.models.threads import ThreadStatus
from dispatch.operations import project
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
    """Look at every lane of a thread that has work, then project its row.

    Raises: NotFound, Gone, Unavailable.
    """
    async with engine.as_worker(record.projector) as connection:
        before = await threads.get(connection, thread_id=thread_id)
    await look_at_lanes(record, thread_id)
    await project.project(record, thread_id)
    async with engine.as_worker(record.projector) as connection:
        after = await threads.get(connection, thread_id=thread_id)
    return Reconciled(before=before.status, after=after.status)


async def look_at_lanes(record: Record, thread_id: ThreadId, *, dry_run: bool = False) -> bool:
    """Do what the clocks of every lane with work demand; False if the thread has no stream."""
    fields = await entries.state_fields(record.connection, thread_id)
    if "open" not in fields:
        return False
    if not dry_run:
        for ref in _busy_lanes(thread_id, fields):
            await look_at(record, ref)
    return True


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
    return await lanes.expire(record.scripts, ref, settings=record.settings, dead_run=dead_run)


def _busy_lanes(thread_id: ThreadId, fields: dict[str, str]) -> list[LaneRef]:
    names = {name.partition(":")[2] for name in fields if name.startswith(("run:", "queue:"))}
    return [LaneRef(thread_id, AgentId(UUID(name))) for name in sorted(names)]
