"""What archiving looks up and writes on rows of threads: a worker's rights, all houses."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import HouseId, ThreadId
from dispatch.models.threads import Thread
from dispatch.stores.postgres import rows
from dispatch.stores.postgres.tables import threads

_ROLL_OVER: Final = sa.text("select arbe_roll_over(:old_id, :new_id)")


async def list(
    conn: AsyncConnection,
    *,
    house_id: HouseId | None = None,
    only_configured: bool,
    after_id: ThreadId | None = None,
    limit: int,
) -> tuple[Thread, ...]:
    """Return one page of threads by id, of one house or of all.

    Args: only_configured: those whose config says something about archiving.
    """
    statement = sa.select(threads).order_by(threads.c.id).limit(limit)
    if house_id is not None:
        statement = statement.where(threads.c.house_id == house_id)
    if only_configured:
        statement = statement.where(threads.c.config.has_key("archive"))
    if after_id is not None:
        statement = statement.where(threads.c.id > after_id)
    return tuple(rows.thread(row) for row in (await conn.execute(statement)).mappings())


async def set_archived(conn: AsyncConnection, *, thread_id: ThreadId) -> None:
    """Note that entries were moved out of Redis now."""
    statement = sa.update(threads).where(threads.c.id == thread_id)
    await conn.execute(statement.values(archived_at=sa.func.now()))


async def set_restored(conn: AsyncConnection, *, thread_id: ThreadId) -> None:
    """Note that all entries are back, if any were gone: a change of the thread."""
    statement = sa.update(threads).where(
        threads.c.id == thread_id, threads.c.archived_at.is_not(None)
    )
    await conn.execute(statement.values(archived_at=None, updated_at=sa.func.now()))


async def set_expired(conn: AsyncConnection, *, thread_id: ThreadId) -> bool:
    """Let a thread expire now, unless it has a time of its own; tell whether it does."""
    statement = sa.update(threads).where(
        threads.c.id == thread_id, threads.c.expires_at.is_(None)
    )
    return (await conn.execute(statement.values(expires_at=sa.func.now()))).rowcount == 1


async def roll_over(
    conn: AsyncConnection, *, thread_id: ThreadId, new_id: ThreadId
) -> ThreadId | None:
    """Let a thread go on in a new one; return that, or the one it goes on in already.

    Promise: one transaction makes the row, moves the key, copies what is said about agents.
    Returns: None, if the thread is gone.
    """
    found = await conn.execute(_ROLL_OVER, {"old_id": thread_id, "new_id": new_id})
    made = found.scalar()
    return None if made is None else ThreadId(made)
