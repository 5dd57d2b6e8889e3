"""Threads that are tasks: the answer to one tool call of a dispatch of their parent thread.

All of it needs the worker's role.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.ids import ThreadId
from dispatch.models.cancellations import NewCancellation
from dispatch.models.delegations import NewTask, Task
from dispatch.models.threads import Thread
from dispatch.stores.postgres import refusals, rows
from dispatch.stores.postgres.tables import cancellations, threads

_OPEN: Final = ("idle", "running")
_EDGE: Final = (
    threads.c.id,
    threads.c.house_id,
    threads.c.parent_thread_id,
    threads.c.parent_dispatch_id,
)
_IS_TASK: Final = threads.c.parent_call_id.is_not(None)


async def insert(conn: AsyncConnection, *, new: NewTask) -> Thread:
    """Make the thread of a call's task, or return the one that is there.

    Promise: a call has one, however often and by how many at once this is called.
    Raises: NotFound, when the parent thread is not there.
    """
    values: dict[str, Any] = {**msgspec.structs.asdict(new), "id": ids.uuid7()}
    made = (
        upsert(threads)
        .values(**values, tags=[], config={}, status="idle")
        .on_conflict_do_nothing()
        .returning(*threads.c)
    )
    try:
        row = (await conn.execute(made)).mappings().first()
    except exc.IntegrityError as error:
        parent = ("thread", new.parent_thread_id)
        raise refusals.missing(error, threads_parent_thread_fkey=parent) from error
    if row is None:
        there = sa.select(threads).where(
            threads.c.parent_thread_id == new.parent_thread_id,
            threads.c.parent_dispatch_id == new.parent_dispatch_id,
            threads.c.parent_call_id == new.parent_call_id,
        )
        row = (await conn.execute(there)).mappings().one()
    return rows.thread(row)


async def depth(conn: AsyncConnection, *, thread_id: ThreadId) -> int:
    """Tell how many tasks deep a thread is: 0 where it works for nobody."""
    up = sa.select(threads.c.parent_thread_id, _IS_TASK.label("is_task"))
    line = up.where(threads.c.id == thread_id).cte("line", recursive=True)
    line = line.union_all(up.where(threads.c.id == line.c.parent_thread_id))
    counted = sa.select(sa.func.count()).select_from(line).where(line.c.is_task)
    return int(await conn.scalar(counted) or 0)


async def list_edges(
    conn: AsyncConnection, *, thread_ids: Sequence[ThreadId]
) -> tuple[Task, ...]:
    """Return those of the threads that are tasks, and the open tasks right below any."""
    its = sa.select(*_EDGE).where(_IS_TASK, threads.c.id.in_(thread_ids))
    below = sa.select(*_EDGE).where(
        _IS_TASK, threads.c.parent_thread_id.in_(thread_ids), threads.c.status.in_(_OPEN)
    )
    found = await conn.execute(its.union(below))
    return tuple(Task(*row) for row in found)


async def cancel(conn: AsyncConnection, *, asked: Sequence[NewCancellation]) -> None:
    """Owe the end of some tasks, and of all below them; what is owed already stays as it is."""
    if not asked:
        return
    values = [msgspec.structs.asdict(each) for each in asked]
    await conn.execute(upsert(cancellations).values(values).on_conflict_do_nothing())
