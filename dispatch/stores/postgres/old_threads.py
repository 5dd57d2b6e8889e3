"""Rows of threads whose time is over, by age or by their own end, and their guarded removal.

A row may lag behind its stream: what is listed here are candidates, and the stream decides.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import HouseId, ThreadId
from dispatch.models.cleanups import Cleanup
from dispatch.models.threads import Thread
from dispatch.stores.postgres import rows
from dispatch.stores.postgres import thread_statements as statements
from dispatch.stores.postgres.tables import houses, threads

_IS_PRIMARY: Final = (
    sa.select(sa.literal(1)).where(houses.c.primary_thread_id == threads.c.id).exists()
)


async def list_old(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    where: Cleanup,
    before_ms: int,
    after_id: ThreadId | None,
    limit: int,
) -> tuple[Thread, ...]:
    """Return one page of the house's threads that may be cleaned up, by id; no primary one.

    Args: before_ms: Unix ms of Redis's clock; what was active since is no candidate.
    """
    statement = (
        sa.select(threads)
        .where(threads.c.house_id == house_id, *_conditions(where, before_ms), ~_IS_PRIMARY)
        .order_by(threads.c.id)
        .limit(limit)
    )
    if after_id is not None:
        statement = statement.where(threads.c.id > after_id)
    found = await conn.execute(statement)
    return tuple(rows.thread(row) for row in found.mappings())


async def list_expired(
    conn: AsyncConnection, *, after: tuple[datetime, ThreadId] | None, limit: int
) -> tuple[Thread, ...]:
    """Return one page of all threads that have expired and do not say `running`, oldest first.

    Args: after: `expires_at` and id of the last one seen. Needs the worker's role.
    """
    place = sa.tuple_(threads.c.expires_at, threads.c.id)
    statement = (
        sa.select(threads)
        .where(statements.EXPIRED, threads.c.status != "running", ~_IS_PRIMARY)
        .order_by(threads.c.expires_at, threads.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(place > sa.tuple_(*map(sa.literal, after)))
    found = await conn.execute(statement)
    return tuple(rows.thread(row) for row in found.mappings())


async def list_below(conn: AsyncConnection, *, thread_id: ThreadId) -> tuple[Thread, ...]:
    """Return all threads below one, whatever the depth."""
    tree = sa.select(threads.c.id).where(threads.c.parent_thread_id == thread_id)
    below = tree.cte("below", recursive=True)
    below = below.union(
        sa.select(threads.c.id).join(below, threads.c.parent_thread_id == below.c.id)
    )
    found = await conn.execute(
        sa.select(threads).where(threads.c.id.in_(sa.select(below.c.id)))
    )
    return tuple(rows.thread(row) for row in found.mappings())


async def end(
    conn: AsyncConnection, *, thread_id: ThreadId, where: Cleanup, before_ms: int
) -> datetime | None:
    """Let a thread's time be over now if it still fits; return that moment, None if it did not.

    Promise: from then on whoever is interrupted, the expiry sweep removes it.
    """
    held = (
        sa.update(threads)
        .where(threads.c.id == thread_id, *_conditions(where, before_ms))
        .values(expires_at=sa.func.now())
        .returning(threads.c.expires_at)
    )
    ended_at: datetime | None = (await conn.execute(held)).scalar()
    return ended_at


async def spare(
    conn: AsyncConnection,
    *,
    thread_id: ThreadId,
    ended_at: datetime,
    expires_at: datetime | None,
) -> None:
    """Take an end back, unless somebody has set another one since."""
    held = threads.c.id == thread_id, threads.c.expires_at == ended_at
    await conn.execute(sa.update(threads).where(*held).values(expires_at=expires_at))


async def delete(
    conn: AsyncConnection, *, thread_id: ThreadId, where: Cleanup, before_ms: int
) -> bool:
    """Remove a thread's row and those below it if it still fits; tell whether it did.

    Promise: one statement, which looks at the row as it is when its lock is held: a pin, a
    label or a later end that was written before wins, and one after finds no row.
    """
    held = sa.delete(threads).where(threads.c.id == thread_id, *_conditions(where, before_ms))
    return (await conn.execute(held)).rowcount == 1


def _conditions(where: Cleanup, before_ms: int) -> Sequence[sa.ColumnElement[bool]]:
    chosen: Sequence[sa.ColumnElement[bool] | None] = (
        statements.EXPIRED if where.expired else None,
        None if where.older_than_seconds is None else _silent_since(before_ms),
        None if where.tag is None else threads.c.tags.contains([where.tag]),
        None if where.key_prefix is None else statements.has_key_prefix(where.key_prefix),
        None if where.status is None else threads.c.status == where.status,
        None if where.running else threads.c.status != "running",
        None if where.pinned else threads.c.pinned_at.is_(None),
    )
    return [condition for condition in chosen if condition is not None]


def _silent_since(before_ms: int) -> sa.ColumnElement[bool]:
    """Compare with the last entry that the row has seen, or with its birth."""
    born = sa.func.to_timestamp(before_ms / 1000)
    return sa.case(
        (threads.c.stream_id == "", threads.c.created_at < born),
        else_=threads.c.stream_id < f"{max(before_ms, 0):015d}_",
    )
