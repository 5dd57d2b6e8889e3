"""The outbox of cancels that reach more than one dispatch, and the threads they reach.

A row is worked off by whoever holds it. Holding is writing a new `due_at`; that value guards
every later write, so of two who believe they hold it one is told that it does not.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import NotFound
from dispatch.ids import CancellationId, DispatchId, ThreadId
from dispatch.models.cancellations import Below, Cancellation, NewCancellation
from dispatch.stores.postgres import refusals, rows
from dispatch.stores.postgres.tables import cancellations, threads

_IS_OPEN: Final = cancellations.c.done_at.is_(None)


async def insert(
    conn: AsyncConnection, *, new: NewCancellation, hold_seconds: float
) -> tuple[Cancellation, bool]:
    """Write down what is owed; tell whether this call did, and so holds it for that long.

    Promise: there is one row of an id, and of what works for one dispatch one open row, however
    many ask; whoever comes second gets that row.
    Raises: NotFound (the thread); Forbidden, when a member asks for the whole house.
    """
    made = (
        upsert(cancellations)
        .values(**msgspec.structs.asdict(new), due_at=_later(hold_seconds))
        .on_conflict_do_nothing()
        .returning(*cancellations.c)
    )
    try:
        row = (await conn.execute(made)).mappings().first()
    except exc.IntegrityError as error:
        thread = ("thread", new.thread_id)
        raise refusals.missing(error, cancellations_thread_fkey=thread) from error
    if row is not None:
        return rows.cancellation(row), True
    it = cancellations.c
    same = sa.and_(it.thread_id == new.thread_id, it.dispatch_id == new.dispatch_id)
    there = (
        sa.select(cancellations)
        .where((it.id == new.id) | same)
        .order_by((it.id == new.id).desc(), it.id.desc())
        .limit(1)
    )
    return rows.cancellation((await conn.execute(there)).mappings().one()), False


async def insert_for(
    conn: AsyncConnection,
    *,
    asked: Below,
    dispatches: Sequence[tuple[ThreadId, DispatchId]],
) -> None:
    """Owe it to what works for these dispatches, where anything does.

    Promise: one that is owed already stays as it is. Needs the worker's role.
    """
    # A parent that is deleted in this moment is waited for; then nothing works for it.
    parents = {thread_id for thread_id, _ in dispatches}
    lock = sa.select(threads.c.id).where(threads.c.id.in_(parents)).order_by(threads.c.id)
    await conn.execute(lock.with_for_update(read=True, key_share=True))
    working = await _with_children(conn, dispatches)
    if not working:
        return
    new = (
        NewCancellation(
            id=CancellationId(ids.uuid7()),
            house_id=asked.house_id,
            thread_id=thread_id,
            dispatch_id=dispatch_id,
            by_kind=asked.by.kind,
            by_id=asked.by.id,
            by_name=asked.by.name,
            message=asked.message,
            before_ms=asked.before_ms,
            is_last_walk=asked.is_last_walk,
        )
        for thread_id, dispatch_id in working
    )
    values = [msgspec.structs.asdict(each) for each in new]
    await conn.execute(upsert(cancellations).values(values).on_conflict_do_nothing())


async def has_children(
    conn: AsyncConnection, *, thread_id: ThreadId, dispatch_id: DispatchId
) -> bool:
    """Tell whether any thread works for the dispatch."""
    return bool(await _with_children(conn, [(thread_id, dispatch_id)]))


async def get(conn: AsyncConnection, *, cancellation_id: CancellationId) -> Cancellation:
    """Return a cancellation. Raises: NotFound, also for one of another house."""
    statement = sa.select(cancellations).where(cancellations.c.id == cancellation_id)
    row = (await conn.execute(statement)).mappings().first()
    if row is None:
        raise NotFound(
            "cancellation",
            str(cancellation_id),
            next_step="Its id stands in the answer to the cancel; it is kept for some days.",
        )
    return rows.cancellation(row)


async def list_due(
    conn: AsyncConnection, *, after_id: CancellationId | None = None, limit: int
) -> tuple[CancellationId, ...]:
    """Return one page of the open ones that nobody holds, by id. For sweeps."""
    due = sa.select(cancellations.c.id).where(_IS_OPEN, cancellations.c.due_at <= sa.func.now())
    if after_id is not None:
        due = due.where(cancellations.c.id > after_id)
    found = await conn.scalars(due.order_by(cancellations.c.id).limit(limit))
    return tuple(map(CancellationId, found))


async def hold(
    conn: AsyncConnection, *, cancellation_id: CancellationId, hold_seconds: float
) -> Cancellation | None:
    """Take an open one that nobody holds; None, if somebody does or it is done."""
    taken = (
        sa.update(cancellations)
        .where(
            cancellations.c.id == cancellation_id,
            _IS_OPEN,
            cancellations.c.due_at <= sa.func.now(),
        )
        .values(due_at=_later(hold_seconds))
        .returning(*cancellations.c)
    )
    row = (await conn.execute(taken)).mappings().first()
    return None if row is None else rows.cancellation(row)


async def update(
    conn: AsyncConnection,
    *,
    held: Cancellation,
    now: Cancellation,
    hold_seconds: float,
    is_done: bool = False,
) -> Cancellation | None:
    """Write how far its holder came; None, if it is not held by this caller any more.

    Promise: one statement, guarded by the `due_at` of `held`.
    Args: hold_seconds: 0 lets go of it.
    """
    written = (
        sa.update(cancellations)
        .where(cancellations.c.id == held.id, _IS_OPEN, cancellations.c.due_at == held.due_at)
        .values(
            before_ms=now.before_ms,
            after_thread_id=now.after_thread_id,
            is_last_walk=now.is_last_walk,
            thread_count=now.thread_count,
            cancelled_count=now.cancelled_count,
            requested_count=now.requested_count,
            due_at=_later(hold_seconds),
            done_at=sa.func.now() if is_done else None,
        )
        .returning(*cancellations.c)
    )
    row = (await conn.execute(written)).mappings().first()
    return None if row is None else rows.cancellation(row)


async def list_reached(
    conn: AsyncConnection, *, cancellation: Cancellation, limit: int
) -> tuple[ThreadId, ...]:
    """Return the next page of the threads it reaches, by id."""
    reached = _reached(cancellation)
    if cancellation.after_thread_id is not None:
        reached = reached.where(reached.selected_columns.id > cancellation.after_thread_id)
    page = reached.order_by(reached.selected_columns.id).limit(limit)
    return tuple(map(ThreadId, await conn.scalars(page)))


async def delete_done(conn: AsyncConnection, *, older_than_seconds: float, limit: int) -> int:
    """Forget some that were done that long ago, and tell how many; a worker's right."""
    old = (
        sa.select(cancellations.c.id)
        .where(cancellations.c.done_at < sa.func.now() - _span(older_than_seconds))
        .order_by(cancellations.c.done_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    done = await conn.execute(sa.delete(cancellations).where(cancellations.c.id.in_(old)))
    return done.rowcount


async def _with_children(
    conn: AsyncConnection, dispatches: Sequence[tuple[ThreadId, DispatchId]]
) -> list[tuple[ThreadId, DispatchId]]:
    edge = sa.tuple_(threads.c.parent_thread_id, threads.c.parent_dispatch_id)
    found = await conn.execute(
        sa.select(threads.c.parent_thread_id, threads.c.parent_dispatch_id)
        .where(edge.in_(dispatches))
        .distinct()
    )
    return [(ThreadId(thread_id), DispatchId(dispatch)) for thread_id, dispatch in found]


def _reached(cancellation: Cancellation) -> sa.Select[Any]:
    """Select the ids of the threads in reach; see `dispatch.models.cancellations`."""
    of_house = threads.c.house_id == cancellation.house_id
    below: sa.ColumnElement[bool] = sa.true()
    if cancellation.dispatch_id is not None:
        start = sa.and_(
            threads.c.parent_thread_id == cancellation.thread_id,
            threads.c.parent_dispatch_id == cancellation.dispatch_id,
        )
        below = threads.c.parent_dispatch_id.is_not(None)
    elif cancellation.thread_id is not None:
        start = threads.c.id == cancellation.thread_id
    elif cancellation.tag is not None:
        start = sa.and_(of_house, threads.c.tags.contains([cancellation.tag]))
    else:
        return sa.select(threads.c.id).where(of_house)
    if not cancellation.cascade:
        return sa.select(threads.c.id).where(start)
    tree = sa.select(threads.c.id).where(start).cte("tree", recursive=True)
    children = sa.select(threads.c.id).join(tree, threads.c.parent_thread_id == tree.c.id)
    tree = tree.union(children.where(below))
    return sa.select(tree.c.id)


def _later(seconds: float) -> sa.ColumnElement[Any]:
    return sa.func.now() + _span(seconds)


def _span(seconds: float) -> sa.ColumnElement[Any]:
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
