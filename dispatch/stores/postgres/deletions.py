"""The outbox of deletes: threads whose row is gone and whose stream must go too.

A trigger writes these rows in the transaction that deletes a thread; see `0001_functions.sql`.
"""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import ThreadId
from dispatch.models.threads import Deletion
from dispatch.stores.postgres import rows
from dispatch.stores.postgres.tables import deletions


async def find(conn: AsyncConnection, *, thread_id: ThreadId) -> Deletion | None:
    """Return the thread's deletion, or None if it was never deleted or is long forgotten."""
    statement = sa.select(deletions).where(deletions.c.thread_id == thread_id)
    row = (await conn.execute(statement)).mappings().first()
    return None if row is None else rows.deletion(row)


async def list_open(
    conn: AsyncConnection, *, after_id: ThreadId | None = None, limit: int
) -> tuple[Deletion, ...]:
    """Return one page of the deletions whose stream may still be there, by thread id.

    Promise: for sweeps; two of them may see the same ones, dropping a stream twice is harmless.
    """
    statement = sa.select(deletions).where(deletions.c.done_at.is_(None))
    if after_id is not None:
        statement = statement.where(deletions.c.thread_id > after_id)
    found = await conn.execute(statement.order_by(deletions.c.thread_id).limit(limit))
    return tuple(rows.deletion(row) for row in found.mappings())


async def list_noted(
    conn: AsyncConnection, *, thread_ids: Collection[ThreadId]
) -> frozenset[ThreadId]:
    """Return those of these threads that were deleted and are not forgotten."""
    statement = sa.select(deletions.c.thread_id).where(deletions.c.thread_id.in_(thread_ids))
    return frozenset((await conn.execute(statement)).scalars())


async def mark_done(conn: AsyncConnection, *, thread_id: ThreadId) -> bool:
    """Note that the stream is gone; a worker's right. True for the one call that changed it."""
    done = await conn.execute(
        sa.update(deletions)
        .where(deletions.c.thread_id == thread_id, deletions.c.done_at.is_(None))
        .values(done_at=sa.func.now())
    )
    return done.rowcount == 1


async def delete_done(conn: AsyncConnection, *, older_than_seconds: float, limit: int) -> int:
    """Forget finished deletions of that age, and tell how many; a worker's right.

    Promise: those threads answer "unknown" from now on rather than "gone". Skips rows that
    another sweep is forgetting.
    """
    age = sa.func.make_interval(0, 0, 0, 0, 0, 0, older_than_seconds)
    old = (
        sa.select(deletions.c.thread_id)
        .where(deletions.c.done_at < sa.func.now() - age)
        .order_by(deletions.c.done_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    done = await conn.execute(sa.delete(deletions).where(deletions.c.thread_id.in_(old)))
    return done.rowcount
