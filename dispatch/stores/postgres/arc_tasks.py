"""Rows of ARC's tasks: whose a task is. A member sees their own only."""

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import ThreadId
from dispatch.models.arc_tasks import Task
from dispatch.stores.postgres.tables import arc_tasks


async def insert(conn: AsyncConnection, *, task: Task) -> Task:
    """Note whose the thread's work is; return the member's task with the same key, if any.

    Promise: of any number at once with one key, all return the same.
    """
    values = msgspec.structs.asdict(task)
    del values["created_at"]
    statement = (
        upsert(arc_tasks)
        .values(values)
        .on_conflict_do_nothing(constraint="arc_tasks_key_key")
        .returning(*arc_tasks.c)
    )
    row = (await conn.execute(statement)).mappings().first()
    if row is not None:
        return Task(**row)
    same = sa.select(arc_tasks).where(
        arc_tasks.c.member_id == task.member_id, arc_tasks.c.key == task.key
    )
    return Task(**(await conn.execute(same)).mappings().one())


async def find(conn: AsyncConnection, *, task_id: ThreadId) -> Task | None:
    """Return a task of the caller's, or None."""
    return await _find(conn, arc_tasks.c.id == task_id)


async def find_keyed(conn: AsyncConnection, *, key: str | None) -> Task | None:
    """Return the caller's task that was made under a key, or None."""
    return None if key is None else await _find(conn, arc_tasks.c.key == key)


async def _find(conn: AsyncConnection, which: sa.ColumnElement[bool]) -> Task | None:
    row = (await conn.execute(sa.select(arc_tasks).where(which))).mappings().first()
    return None if row is None else Task(**row)
