"""What works for a turn ends with it, also when an entry took the turn's place.

A cancel that somebody asks for is `cancel_many`'s; this one comes with an entry whose poster
chose `interrupt` or `rollback`. Not guaranteed: work of a turn that failed or completed ends.
"""

from typing import Final

from dispatch.ids import DispatchId, EntryId, ThreadId, milliseconds_of
from dispatch.models import state as states
from dispatch.models.cancellations import Below
from dispatch.models.houses import WhenBusy
from dispatch.models.threads import ThreadAccess
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import Cancelled, CancelRequested, EntryWritten, Queued
from dispatch.stores.postgres import cancellations, engine
from dispatch.streams import entries

INTERRUPTING: Final[frozenset[WhenBusy]] = frozenset({"interrupt", "rollback"})
_REASONS: Final = frozenset({"interrupted", "rolled_back"})
_ENTRIES_PER_LANE: Final = 3
"""What accepting writes per lane as a rule: asked to end, rolled back, queued. A turn that
waited has results of its open calls, too."""


async def end_interrupted(
    record: Record, access: ThreadAccess, entry_id: EntryId, *, by: Author, lane_count: int
) -> None:
    """Cancel what works for the turns that ended, or were asked to end, for this entry.

    Promise: it is written down on return, and a sweep does it. A repeat, however late, means
    no more than the first call.
    Raises: Unavailable; the entry stands, and posting it again under its key comes here again.
    """
    asked = await _displaced(record, access.thread_id, entry_id, lane_count)
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


async def _displaced(
    record: Record, thread_id: ThreadId, entry_id: EntryId, lane_count: int
) -> list[str]:
    """Return the dispatches whose place an entry took; they stand before its own."""
    found: list[str] = []
    after, lanes_left = entry_id, lane_count
    while lanes_left > 0:
        written = await record.entries.page(
            thread_id, after=after, limit=_ENTRIES_PER_LANE * lane_count
        )
        if not written:
            break
        for entry in written:
            match entry.payload:
                case CancelRequested(reason=reason) | Cancelled(reason=reason) as ended:
                    if reason in _REASONS:
                        found.append(ended.dispatch_id)
                case Queued(entry_id=of) | EntryWritten(entry_id=of):
                    lanes_left -= of == entry_id
                case _:
                    pass
        after = written[-1].id
    return found
