"""Say where a thread's last dispatch stands, why, and what to do; read only."""

import asyncio
from collections.abc import Mapping
from typing import Final

from dispatch.ids import ThreadId
from dispatch.models import state as states
from dispatch.models.diagnosis import AgentSeen, Diagnosis, Sight
from dispatch.models.diagnosis import threads as judges
from dispatch.models.houses import Caller
from dispatch.models.state import ThreadState
from dispatch.models.threads import ThreadAccess
from dispatch.operations import authorize, check_health
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, threads
from dispatch.streams import entries, fleet, lanes

_RECENT_ENTRIES: Final = 50


async def diagnose(record: Record, who: Caller, thread_id: ThreadId) -> Diagnosis:
    """Judge a thread by its row, its state, its last entries and the signs of life of workers.

    Raises: NotFound, Gone, Unavailable.
    """
    # The row first: one read after the state may know of more than the state did.
    access = await authorize.thread(record, who, thread_id, fresh=True)
    async with engine.as_member(record.members, who.member_id) as members:
        row = await threads.get(members, thread_id=thread_id)
    connection = record.connection
    fields, recent, workers, now_ms = await asyncio.gather(
        entries.state_fields(connection, thread_id),
        record.entries.latest(thread_id, limit=_RECENT_ENTRIES),
        fleet.list_workers(connection),
        lanes.now_ms(connection),
    )
    state = states.from_fields(fields)
    sight = Sight(
        now_ms=now_ms,
        patience=record.settings,
        workers=workers,
        agents=_agents(access),
        row=row,
        broker_answers=not _waits(state) or await check_health.broker_answers(record),
    )
    return judges.diagnose(state, recent, sight)


def _agents(access: ThreadAccess) -> Mapping[str, AgentSeen]:
    return {str(each.agent_id): AgentSeen(each.handle, each.queue) for each in access.listeners}


def _waits(state: ThreadState) -> bool:
    """Tell whether anything waits for a worker to hear of it."""
    return any(lane.queue for lane in state.lanes.values())
