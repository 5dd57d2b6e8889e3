"""Archive a thread: move its oldest entries out of Redis, segment by segment.

Read, pack, write the object, insert the row, read that back, and only then trim the stream, by
a script that trims nothing else than what was read back. A crash after any step loses nothing:
the next archive goes on from the row, and what nobody refers to is swept.
"""

import asyncio
from typing import Final

import msgspec

from dispatch.ids import BEGINNING, SegmentId, ThreadId, uuid7
from dispatch.models import archives as decisions
from dispatch.models import state as states
from dispatch.models.archives import Pointer, SegmentRow
from dispatch.models.threads import Thread
from dispatch.operations.record import Record
from dispatch.stores import objects
from dispatch.stores.postgres import archived_threads, engine, segments
from dispatch.streams import archives, entries
from dispatch.streams import segments as packed
from dispatch.streams.entries import Entry

_TRIES: Final = 5
"""How often an archive begins a segment anew because another one was faster."""


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """What a call has moved."""

    segments: int = 0
    entries: int = 0


async def archive_thread(record: Record, row: Thread, *, keep_entries: int = 1) -> Archived:
    """Move all entries but the last `keep_entries`, and but those that open work needs.

    Promise: safe twice at once and when killed; readers notice nothing. The last entry stays.
    Raises: Unavailable, Invalid (the store), NotFound or Gone (no stream).
    """
    done = Archived()
    while moved := await archive_segment(record, row, keep_entries=keep_entries):
        done = Archived(segments=done.segments + 1, entries=done.entries + moved)
    pointer = await archives.pointer(record.connection, row.id)
    if pointer.last_id > BEGINNING and (done.entries or row.archived_at is None):
        async with engine.as_worker(record.projector) as connection:
            await archived_threads.set_archived(connection, thread_id=row.id)
    return done


async def archive_segment(record: Record, row: Thread, *, keep_entries: int) -> int:
    """Move one segment; return how many entries it has, 0: there is nothing to move.

    Raises: as `archive_thread`.
    """
    for _ in range(_TRIES):
        seen = await archives.pointer(record.connection, row.id)
        segment = await _find(record, row, seen) or await _make(
            record, row, seen, keep_entries=keep_entries
        )
        if segment is None:
            return 0
        stored = await record.archived.read(segment)
        live = await _live(record, row.id, seen, len(stored))
        if seen != await archives.pointer(record.connection, row.id):
            continue
        if stored != live:
            # Of a time before Redis forgot something, or before chunks went. Nobody has trimmed
            # by it, for the pointer stands still, and nobody can, for entries only go.
            await discard(record, segment)
            continue
        match await archives.trim(record.scripts, row.id, seen, stored):
            case "ok":
                return len(stored)
            case "moved" | "changed":
                continue
            case "needed" | "last":
                return 0
    raise archives.overtaken(row.id)


async def _find(record: Record, row: Thread, seen: Pointer) -> SegmentRow | None:
    """Return the segment that somebody made to be the next."""
    async with engine.as_worker(record.projector) as connection:
        return await segments.find_made(connection, thread_id=row.id, fence=seen.text)


async def _make(
    record: Record, row: Thread, seen: Pointer, *, keep_entries: int
) -> SegmentRow | None:
    settings = record.settings
    count = await archives.count_live(record.connection, row.id) - max(1, keep_entries)
    if count < 1:
        return None
    fields = await entries.state_fields(record.connection, row.id)
    live = await _live(record, row.id, seen, min(count, settings.archive_segment_entries))
    chosen = decisions.head(
        live,
        states.from_fields(fields).dispatches,
        max_bytes=settings.archive_segment_bytes,
    )
    return await _write(record, row, seen, list(chosen)) if chosen else None


async def _write(
    record: Record, row: Thread, seen: Pointer, chosen: list[Entry]
) -> SegmentRow | None:
    data = await asyncio.to_thread(packed.pack, chosen)
    seqs = [entry.seq for entry in chosen if entry.seq is not None]
    segment = SegmentRow(
        id=SegmentId(uuid7()),
        thread_id=row.id,
        house_id=row.house_id,
        fence=seen.text,
        after_id=seen.last_id,
        first_id=chosen[0].id,
        last_id=chosen[-1].id,
        first_seq=seqs[0] if seqs else None,
        last_seq=seqs[-1] if seqs else None,
        entry_count=len(chosen),
        byte_count=sum(len(entry.raw) for entry in chosen),
        packed_bytes=len(data),
        checksum=packed.checksum_of(data),
    )
    url = record.settings.archive_url.get_secret_value()
    if url:
        name = f"{folder_of(row.id)}/{segment.id}"
        segment = msgspec.structs.replace(segment, place=await objects.put(url, name, data))
    async with engine.as_worker(record.projector) as connection:
        made = await segments.insert(connection, row=segment, data=None if url else data)
    if segment.place is not None and (made is None or made.id != segment.id):
        await objects.delete(segment.place)
    return made


def folder_of(thread_id: ThreadId) -> str:
    """Return where a thread's objects are, below the archive's URL."""
    return f"{str(thread_id)[-2:]}/{thread_id}"


async def _live(record: Record, thread_id: ThreadId, seen: Pointer, limit: int) -> list[Entry]:
    return await entries.page(record.connection, thread_id, after=seen.last_id, limit=limit)


async def discard(record: Record, segment: SegmentRow) -> None:
    """Remove a segment that nobody reads or will read. Raises: Unavailable, Invalid."""
    async with engine.as_worker(record.projector) as connection:
        await segments.delete(connection, segment_id=segment.id)
    if segment.place is not None:
        await objects.delete(segment.place)


async def forget_objects(record: Record, thread_id: ThreadId) -> None:
    """Remove the objects of a thread whose row is gone. Repeatable.

    Raises: Unavailable, Invalid.
    """
    url = record.settings.archive_url.get_secret_value()
    if url:
        await objects.delete_folder(url, folder_of(thread_id))
