"""Do something to a thread only while it has a status that the caller names.

The status is brought up to the stream first, as by a GET; what then writes a row guards itself
with the same words. Not guaranteed: against an entry that is accepted between the two.
"""

from collections.abc import Collection

from dispatch.ids import ThreadId
from dispatch.models.houses import Caller
from dispatch.models.threads import ThreadStatus, status_mismatch
from dispatch.operations import reconcile
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, threads


async def check(
    record: Record, who: Caller, thread_id: ThreadId, if_status: Collection[ThreadStatus]
) -> None:
    """Return if the thread has one of these statuses; no statuses ask for nothing.

    Raises: Conflict (`status_mismatch`), NotFound, Gone, Unavailable.
    """
    if not if_status:
        return
    async with engine.as_member(record.members, who.member_id) as connection:
        await threads.get(connection, thread_id=thread_id)
    found = (await reconcile.reconcile(record, thread_id)).after
    if found not in if_status:
        raise status_mismatch(thread_id, found)
