"""Let a thread go on in a new one, which takes its key, its place and its labels along.

The old one is archived and refuses entries, naming the new one, until somebody restores it.
Not guaranteed: for `authorization_cache_seconds` after; an entry that the old one takes then
stands there and is answered there.
"""

from dispatch.errors import Conflict, Gone
from dispatch.ids import ThreadId
from dispatch.models import state as states
from dispatch.models.threads import Thread
from dispatch.operations import open_stream
from dispatch.operations.record import Record
from dispatch.stores.postgres import archived_threads, engine, houses, threads
from dispatch.streams import archives, entries


async def require_rest(record: Record, row: Thread) -> None:
    """Return if a thread may go on in another now.

    Raises: Conflict (`thread_running`, `primary_thread`), Unavailable.
    """
    async with engine.as_worker(record.projector) as connection:
        house = await houses.get(connection, house_id=row.house_id)
    if house.primary_thread_id == row.id:
        raise Conflict(
            "primary_thread",
            "A house's primary thread does not go on in another.",
            next_step="Archive it without rolling over.",
        )
    fields = await entries.state_fields(record.connection, row.id)
    if states.from_fields(fields).has_work:
        raise archives.running(row.id)


async def roll_over(record: Record, row: Thread, *, new_id: ThreadId) -> Thread:
    """Make the thread that a thread goes on in, or return the one there is.

    Promise: the rows are one transaction; a repeat returns the same thread.
    Raises: Gone, Unavailable.
    """
    async with engine.as_worker(record.projector) as connection:
        next_id = await archived_threads.roll_over(connection, thread_id=row.id, new_id=new_id)
        if next_id is None:
            raise Gone(str(row.id))
        made = await threads.get(connection, thread_id=next_id)
    record.forget()
    await open_stream.open_stream(record, made.id)
    return made
