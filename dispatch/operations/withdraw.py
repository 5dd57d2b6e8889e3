"""Withdraw an entry: what waits because of it shall not start any more.

The entry itself stays on the stream, since somebody may have read it.
"""

import msgspec

from dispatch.errors import Conflict, NotFound
from dispatch.ids import ENTRY_ID, DispatchId, EntryId, ThreadId
from dispatch.models.houses import Caller
from dispatch.operations import authorize, narrate, project, receipts
from dispatch.operations.record import Record
from dispatch.streams import entries
from dispatch.streams import threads as streams


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """The dispatches of an entry: those that will not start, and those that had."""

    withdrawn: tuple[DispatchId, ...]
    delivered: tuple[DispatchId, ...]
    """They had started, joined a running turn, or ended."""


async def withdraw(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    entry_id: EntryId,
    *,
    message: str | None = None,
) -> Withdrawn:
    """End every dispatch of an entry that has not started.

    Promise: what is answered stands on the stream: a dispatch is withdrawn or delivered, never
    both. A repeat answers the same.
    Raises: NotFound (also for an entry that woke nobody), Gone, Unavailable; Conflict
        (`already_delivered`) when nothing could be withdrawn.
    """
    await authorize.thread(record, who, thread_id)
    await entries.require_open(record.connection, thread_id)
    born: tuple[DispatchId, ...] = ()
    if ENTRY_ID.match(entry_id):
        born = await receipts.born_from(record, thread_id, entry_id)
    if not born:
        raise NotFound(
            "entry", entry_id[:80], next_step="Withdraw an entry that woke an agent, by its id."
        )
    withdrawn: list[DispatchId] = []
    delivered: list[DispatchId] = []
    for dispatch_id in born:
        answer = await streams.cancel(
            record.scripts,
            thread_id,
            dispatch_id,
            by=narrate.author(who),
            message=message,
            grace_seconds=0,
            only_queued=True,
        )
        is_withdrawn = answer == "cancelled" or (
            answer == "none" and await _was_withdrawn(record, thread_id, dispatch_id)
        )
        (withdrawn if is_withdrawn else delivered).append(dispatch_id)
    if not withdrawn:
        raise _too_late(entry_id, delivered[0])
    await project.project(record, thread_id)
    return Withdrawn(withdrawn=tuple(withdrawn), delivered=tuple(delivered))


async def _was_withdrawn(record: Record, thread_id: ThreadId, dispatch_id: DispatchId) -> bool:
    story = await receipts.read(record, thread_id, dispatch_id)
    return story.receipt == "withdrawn"


def _too_late(entry_id: EntryId, dispatch_id: DispatchId) -> Conflict:
    return Conflict(
        "already_delivered",
        f"Entry {entry_id} has been delivered: its dispatches started, or ended.",
        next_step="Cancel the dispatch if it still runs, or post a correction.",
        entryId=entry_id,
        dispatchId=dispatch_id,
    )
