"""Rows of webhook subscriptions: who is told of a task, and how far they were told.

A row is worked off by whoever holds it. Holding is writing a new `due_at`; that value guards
every later write, so of two who believe they hold it one is told that it does not.
"""

import uuid
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.errors import Conflict
from dispatch.ids import EntryId, MemberId
from dispatch.models.arc_tasks import Task
from dispatch.models.webhooks import Subscription
from dispatch.stores.postgres.tables import arc_subscriptions, arc_tasks

_IT: Final = arc_subscriptions.c
_SHOWN: Final = [column for column in _IT if column.name != "secret"]


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that its holder works at, with what it needs for that."""

    subscription: Subscription
    task: Task
    secret: str


async def insert(
    conn: AsyncConnection,
    *,
    subscription_id: uuid.UUID,
    task: Task,
    callback_url: str,
    events: list[str],
    secret: str,
    member_id: MemberId,
    limit: int,
) -> Subscription:
    """Add one.

    Raises: Conflict (`too_many_subscriptions`), beyond the limit of active ones of the task.
    """
    active = sa.select(sa.func.count()).where(_IT.task_id == task.id, _IT.active)
    if (await conn.scalar(active) or 0) >= limit:
        raise Conflict(
            "too_many_subscriptions",
            f"The task has {limit} subscriptions (ARBE_MAX_TASK_SUBSCRIPTIONS).",
            next_step="Use one of them.",
        )
    values = {
        "id": subscription_id,
        "house_id": task.house_id,
        "member_id": member_id,
        "task_id": task.id,
        "callback_url": callback_url,
        "events": events,
        "secret": secret,
    }
    statement = sa.insert(arc_subscriptions).values(values).returning(*_SHOWN)
    return _subscription((await conn.execute(statement)).mappings().one())


async def find(conn: AsyncConnection, *, subscription_id: uuid.UUID) -> Subscription | None:
    """Return one of the caller's, or None."""
    statement = sa.select(*_SHOWN).where(_IT.id == subscription_id)
    row = (await conn.execute(statement)).mappings().first()
    return None if row is None else _subscription(row)


async def hold_due(
    conn: AsyncConnection, *, limit: int, hold_seconds: float
) -> tuple[Owed, ...]:
    """Take up to `limit` that are due and that nobody holds; a worker's right."""
    due = (
        sa.select(_IT.id)
        .where(_IT.active, _IT.due_at <= sa.func.now())
        .order_by(_IT.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = (
        sa.update(arc_subscriptions)
        .where(_IT.id.in_(due))
        .values(due_at=_later(hold_seconds))
        .returning(*_IT)
    )
    rows = (await conn.execute(taken)).mappings().all()
    tasks = await _tasks(conn, [row["task_id"] for row in rows])
    return tuple(
        Owed(
            subscription=_subscription(row),
            task=tasks[row["task_id"]],
            secret=row["secret"],
        )
        for row in rows
        if row["task_id"] in tasks
    )


async def update(
    conn: AsyncConnection,
    *,
    held: Subscription,
    cursor: EntryId,
    failure_count: int,
    due_in_seconds: float,
    ended_because: str | None = None,
) -> Subscription | None:
    """Write how far its holder came; None, if it is not held by this caller any more.

    Args: ended_because: nobody is told any more, for this reason.
    """
    written = (
        sa.update(arc_subscriptions)
        .where(_IT.id == held.id, _IT.active, _IT.due_at == held.due_at)
        .values(
            cursor=cursor,
            failure_count=failure_count,
            due_at=_later(due_in_seconds),
            active=ended_because is None,
            ended_because=ended_because,
        )
        .returning(*_SHOWN)
    )
    row = (await conn.execute(written)).mappings().first()
    return None if row is None else _subscription(row)


async def _tasks(conn: AsyncConnection, ids: list[uuid.UUID]) -> dict[uuid.UUID, Task]:
    if not ids:
        return {}
    found = await conn.execute(sa.select(arc_tasks).where(arc_tasks.c.id.in_(ids)))
    return {row["id"]: Task(**row) for row in found.mappings()}


def _subscription(row: RowMapping) -> Subscription:
    return Subscription(**{name: value for name, value in row.items() if name != "secret"})


def _later(seconds: float) -> sa.ColumnElement[Any]:
    return sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
