"""Read a page of a thread's entries, forwards from a place or backwards from it."""

from dispatch.errors import Invalid, NotFound
from dispatch.ids import BEGINNING, ENTRY_ID, EntryId, ThreadId
from dispatch.models.houses import Caller
from dispatch.models.pages import Page
from dispatch.operations import authorize, open_stream, paging
from dispatch.operations.record import Record
from dispatch.streams import entries
from dispatch.streams.entries import Entry


async def list_entries(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    *,
    after: str | None = None,
    before: str | None = None,
    limit: int | None = None,
) -> Page[Entry]:
    """Return entries in the stream's order: those after a place, or the last ones before it.

    Promise: `next_cursor` goes on in the same direction (send it as `after` or as `before`).
    Entries that were chunks or heartbeats may be missing on the next look; durable ones never.
    Raises: NotFound, Gone, Invalid (a place that is none), Unavailable.
    """
    size = paging.size(limit, record.settings)
    if after is not None and before is not None:
        raise Invalid("`after` and `before` exclude each other.", next_step="Send one.")
    await authorize.thread(record, who, thread_id)
    if before is not None:
        end = None if before == "end" else _place(before)
        found = await record.entries.latest(thread_id, before=end, limit=size + 1)
        shown = tuple(reversed(found[:size]))
        cursor = shown[0].id if len(found) > size else None
    else:
        start = BEGINNING if after is None else _place(after)
        found = await record.entries.page(thread_id, after=start, limit=size + 1)
        shown = tuple(found[:size])
        cursor = shown[-1].id if len(found) > size else None
    if not shown:
        await _require_stream(record, thread_id)
    return Page(shown, cursor)


async def _require_stream(record: Record, thread_id: ThreadId) -> None:
    """Tell an empty page from a stream that is gone, lost or was never opened."""
    try:
        await entries.require_open(record.connection, thread_id)
    except NotFound:
        await open_stream.open_stream(record, thread_id)


def _place(text: str) -> EntryId:
    if ENTRY_ID.match(text) is None:
        raise paging.bad_cursor()
    return EntryId(text)
