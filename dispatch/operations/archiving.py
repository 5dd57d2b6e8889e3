"""Archive a thread on a member's word, or all of a house's that are due."""

from collections import Counter
from typing import Final

import msgspec

from dispatch import clock
from dispatch.ids import ThreadId
from dispatch.models import claims
from dispatch.models.claims import NewId
from dispatch.models.houses import Caller
from dispatch.models.threads import Thread
from dispatch.operations import archive_due, archive_thread, open_stream, roll_over
from dispatch.operations.archive_thread import Archived
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, threads

_SECONDS: Final = 10.0
"""A call works about this long; what is left is due as before."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive did."""

    thread: Thread
    moved: Archived
    next_thread: Thread | None = None
    """The thread it goes on in, if that was asked for."""


async def archive(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    *,
    rolls_over: bool = False,
    new_id: NewId | None = None,
) -> Outcome:
    """Move all entries out of Redis that may go; let the thread go on in a new one if asked.

    Promise: a repeat goes on where a call died, and returns the same new thread.
    Raises: NotFound, Gone, Unavailable, Invalid (the object store); Conflict
        (`thread_running`, `primary_thread`, `archive_moved`).
    """
    row = await get(record, who, thread_id)
    await open_stream.open_stream(record, thread_id)
    if rolls_over:
        await roll_over.require_rest(record, row)
    moved = await archive_thread.archive_thread(record, row)
    made = None
    if rolls_over:
        reserved = new_id or claims.fresh()
        made = await roll_over.roll_over(record, row, new_id=ThreadId(reserved.id))
    row = await get(record, who, thread_id)
    return Outcome(thread=row, moved=moved, next_thread=made)


async def archive_house(record: Record, who: Caller, *, dry_run: bool) -> Counter[str]:
    """Archive the threads of the caller's house that are too long or old.

    Returns: counts, as `archive_due.archive_due`; a dry run changes nothing.
    Raises: Unavailable.
    """
    counts: Counter[str] = Counter()
    until = clock.monotonic_seconds() + _SECONDS
    place: ThreadId | None = None
    while True:
        done = await archive_due.archive_due(
            record,
            house_id=who.house_id,
            after_id=place,
            seconds=until - clock.monotonic_seconds(),
            dry_run=dry_run,
        )
        counts += done.counts
        place = done.next_after
        if place is None or clock.monotonic_seconds() >= until:
            return counts


async def get(record: Record, who: Caller, thread_id: ThreadId) -> Thread:
    """Return a thread's row as it stands. Raises: NotFound, Gone, Unavailable."""
    async with engine.as_member(record.members, who.member_id) as connection:
        return await threads.get(connection, thread_id=thread_id)
