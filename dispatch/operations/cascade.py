"""What works for a turn ends with it, also when an entry took the turn's place.

A cancel that somebody asks for is `cancel_many`'s; this one comes with an entry whose poster
chose `interrupt` or `rollback`. Not guaranteed: work of a turn that failed or completed ends.
"""

from typing import Final

from dispatch.ids import DispatchId, EntryId, milliseconds_of
from dispatch.models import state as states
from dispatch.models.cancellations import Below
from dispatch.models.houses import WhenBusy
from dispatch.models.threads import ThreadAccess
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import CancelRequested
from dispatch.stores.postgres import cancellations, engine
from dispatch.streams import entries

INTERRUPTING: Final[frozenset[WhenBusy]] = frozenset({"interrupt", "rollback"})
_REASONS: Final = frozenset({"interrupted", "rolled_back"})
_ENTRIES_PER_LANE: Final = 3
"""What accepting may write per lane: asked to end, rolled back, queued."""


async def end_interrupted(
    record: Record, access: ThreadAccess, entry_id: EntryId, *, by: Author, lane_count: int
) -> None:
    """Cancel what works for the turns that were asked to end for this entry.

    Promise: it is written down on return, and a sweep does it. A repeat, however late, means
    no more than the first call.
    Raises: Unavailable; the entry stands, and posting it again under its key comes here again.
    """
    written = await entries.page(
        record.connection,
        access.thread_id,
        after=entry_id,
        limit=_ENTRIES_PER_LANE * lane_count,
    )
    asked = [
        entry.payload.dispatch_id
        for entry in written
        if isinstance(entry.payload, CancelRequested) and entry.payload.reason in _REASONS
    ]
    if not asked:
        return
    fields = await entries.state_fields(record.connection, access.thread_id)
    still_open = states.from_fields(fields).dispatches
    async with engine.as_worker(record.projector) as connection:
        for dispatch_id in map(DispatchId, asked):
            below = Below(
                house_id=access.house_id,
                by=by,
                before_ms=milliseconds_of(entry_id),
                is_last_walk=dispatch_id not in still_open,
            )
            edge = (access.thread_id, dispatch_id)
            await cancellations.insert_for(connection, asked=below, dispatches=[edge])
