"""Look at every lane that is due: ring lost hints again, end leases that are over.

This is the net under everything else: the due index holds exactly the lanes with unfinished
work, so whatever died, its lane is found here.
"""

import asyncio
from typing import Final

from dispatch import log
from dispatch.errors import ArbeError
from dispatch.operations import project, reconcile
from dispatch.operations.record import Record
from dispatch.stores.postgres import agents, engine
from dispatch.streams import lanes
from dispatch.streams.lanes import LaneRef
from dispatch.task_names import TURNS_QUEUE
from dispatch.transport import Hint
from workers.sweeps import Counts

_log = log.get(__name__)
_MAX_BATCHES: Final = 50
"""Bounds one pass; what is left is due in the next."""


async def sweep(record: Record) -> Counts:
    """Go through the due index once; returns counts by verdict."""
    counts = Counts()
    for _ in range(_MAX_BATCHES):
        due = await lanes.list_due(record.connection, limit=record.settings.sweep_batch)
        counts.update(each for each in await look_at_all(record, due) if each != "live")
        if len(due) < record.settings.sweep_batch:
            break
    return counts


async def look_at_all(record: Record, refs: list[LaneRef]) -> list[str]:
    """Do what each lane's clocks demand; returns the verdicts. One bad lane stops no other."""
    verdicts = await asyncio.gather(*(_look_at(record, ref) for ref in refs))
    waiting = [
        ref for ref, verdict in zip(refs, verdicts, strict=True) if verdict in {"hint", "lost"}
    ]
    record.transport.ring(await _hints(record, waiting))
    return verdicts


async def _look_at(record: Record, ref: LaneRef) -> str:
    try:
        verdict = await reconcile.look_at(record, ref)
        if verdict in lanes.ENDED:
            _log.info(
                "lane.expired",
                verdict=verdict,
                thread_id=str(ref.thread_id),
                lane=str(ref.lane),
            )
            await project.project(record, ref.thread_id)
    except ArbeError as error:
        _log.warning("lane.not_looked_at", thread_id=str(ref.thread_id), cause=str(error))
        return "unavailable"
    return verdict


async def _hints(record: Record, refs: list[LaneRef]) -> list[Hint]:
    if not refs:
        return []
    async with engine.as_worker(record.projector) as connection:
        queues = await agents.queues(connection, agent_ids=[ref.lane for ref in refs])
    return [Hint(ref.thread_id, ref.lane, queues.get(ref.lane, TURNS_QUEUE)) for ref in refs]
