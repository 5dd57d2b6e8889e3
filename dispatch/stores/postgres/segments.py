"""Segments of archived entries: where they are, and their bytes where no object store has them.

Workers write and read; what a thread's reader may see was decided before.
"""

from collections.abc import Collection
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import EntryId, SegmentId, ThreadId
from dispatch.models.archives import SegmentRow
from dispatch.stores.postgres import refusals
from dispatch.stores.postgres.tables import segments

_COLUMNS: Final = [segments.c[name] for name in SegmentRow.__struct_fields__]


async def insert(
    conn: AsyncConnection, *, row: SegmentRow, data: bytes | None
) -> SegmentRow | None:
    """Add a segment; return it, or the one that was made for that position of the pointer.

    Returns: None: there was one, and it went in this very moment.
    Raises: NotFound, when the thread is gone.
    """
    values = {**msgspec.structs.asdict(row), "data": data}
    del values["dropped_at"]
    added = (
        upsert(segments).values(values).on_conflict_do_nothing(constraint="segments_fence_key")
    )
    try:
        made = (await conn.execute(added.returning(*_COLUMNS))).mappings().first()
    except exc.IntegrityError as error:
        raise refusals.missing(error, segments_thread_fkey=("thread", row.thread_id)) from error
    if made is not None:
        return _segment(made)
    return await find_made(conn, thread_id=row.thread_id, fence=row.fence)


async def find_made(
    conn: AsyncConnection, *, thread_id: ThreadId, fence: str
) -> SegmentRow | None:
    """Return the segment that was made for a position of the pointer."""
    return await _first(conn, segments.c.thread_id == thread_id, segments.c.fence == fence)


async def find_covering(
    conn: AsyncConnection, *, thread_id: ThreadId, place: EntryId, includes: bool
) -> SegmentRow | None:
    """Return the segment that holds what follows a place, or (`includes`) the place itself.

    Promise: of several, one that was not dropped, and of these the longest.
    """
    if includes:
        fits = segments.c.after_id < place, segments.c.last_id >= place
    else:
        fits = segments.c.after_id <= place, segments.c.last_id > place
    return await _first(conn, segments.c.thread_id == thread_id, *fits)


async def find_last(conn: AsyncConnection, *, thread_id: ThreadId) -> SegmentRow | None:
    """Return the segment with the thread's newest entries."""
    statement = sa.select(*_COLUMNS).where(segments.c.thread_id == thread_id)
    found = await conn.execute(statement.order_by(segments.c.last_id.desc()).limit(1))
    row = found.mappings().first()
    return None if row is None else _segment(row)


async def get_data(conn: AsyncConnection, *, segment_id: SegmentId) -> bytes | None:
    """Return the bytes that a row holds itself; None, if it is gone."""
    statement = sa.select(segments.c.data).where(segments.c.id == segment_id)
    return (await conn.execute(statement)).scalar()


async def list_present(
    conn: AsyncConnection, *, segment_ids: Collection[SegmentId]
) -> frozenset[SegmentId]:
    """Return those of these segments that are there."""
    statement = sa.select(segments.c.id).where(segments.c.id.in_(segment_ids))
    return frozenset((await conn.execute(statement)).scalars())


async def list_beyond(
    conn: AsyncConnection, *, thread_id: ThreadId, place: EntryId
) -> tuple[SegmentRow, ...]:
    """Return a thread's segments that end after a place."""
    statement = sa.select(*_COLUMNS).where(
        segments.c.thread_id == thread_id, segments.c.last_id > place
    )
    return tuple(_segment(row) for row in (await conn.execute(statement)).mappings())


async def drop(conn: AsyncConnection, *, thread_id: ThreadId) -> int:
    """Note that what a thread's segments hold is on the stream again; tell how many."""
    statement = sa.update(segments).where(
        segments.c.thread_id == thread_id, segments.c.dropped_at.is_(None)
    )
    return (await conn.execute(statement.values(dropped_at=sa.func.now()))).rowcount


async def drop_again(conn: AsyncConnection, *, segment_id: SegmentId) -> None:
    """Keep a dropped segment for as long once more."""
    statement = sa.update(segments).where(segments.c.id == segment_id)
    await conn.execute(statement.values(dropped_at=sa.func.now()))


async def list_dropped(
    conn: AsyncConnection, *, older_than_seconds: float, limit: int
) -> tuple[SegmentRow, ...]:
    """Return a batch of segments that were dropped that long ago."""
    statement = sa.select(*_COLUMNS).where(_is_old(older_than_seconds))
    found = await conn.execute(statement.order_by(segments.c.dropped_at).limit(limit))
    return tuple(_segment(row) for row in found.mappings())


async def delete(
    conn: AsyncConnection,
    *,
    segment_id: SegmentId,
    dropped_for_seconds: float | None = None,
) -> bool:
    """Remove a segment; tell whether it was there.

    Args: dropped_for_seconds: only if it was dropped that long ago, and is.
    """
    statement = sa.delete(segments).where(segments.c.id == segment_id)
    if dropped_for_seconds is not None:
        statement = statement.where(_is_old(dropped_for_seconds))
    return (await conn.execute(statement)).rowcount == 1


def _is_old(seconds: float) -> sa.ColumnElement[bool]:
    return segments.c.dropped_at < sa.func.now() - sa.func.make_interval(
        0, 0, 0, 0, 0, 0, seconds
    )


async def _first(conn: AsyncConnection, *fits: sa.ColumnElement[bool]) -> SegmentRow | None:
    statement = (
        sa.select(*_COLUMNS)
        .where(*fits)
        .order_by(segments.c.dropped_at.is_(None).desc(), segments.c.last_id.desc())
        .limit(1)
    )
    row = (await conn.execute(statement)).mappings().first()
    return None if row is None else _segment(row)


def _segment(row: RowMapping) -> SegmentRow:
    return SegmentRow(**row)
