"""The longer statements about threads, built once; `threads` runs them."""

import uuid
from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningDelete

from dispatch.ids import HouseId, ThreadId
from dispatch.models.threads import Parent, ThreadFilter, ThreadStatus
from dispatch.stores.postgres.tables import agents, houses, thread_agents, threads

FIND: Final = sa.select(threads).where(threads.c.id == sa.bindparam("thread_id"))

TRIGGER_MODE: Final = sa.func.coalesce(
    thread_agents.c.trigger_mode,
    sa.case((agents.c.id == threads.c.parent_agent_id, "always")),
    agents.c.trigger_mode,
)
"""What holds in a thread: its own word, `always` for a direct thread's agent, the house's."""

EXPIRED: Final = threads.c.expires_at <= sa.func.now()
"""Postgres's clock decides; NULL for a thread that never expires."""
_NEXT: Final = threads.alias("following")
_NEXT_ID: Final = (
    sa.select(_NEXT.c.id)
    .where(_NEXT.c.previous_thread_id == threads.c.id, threads.c.archived_at.is_not(None))
    .order_by(_NEXT.c.id)
    .limit(1)
    .scalar_subquery()
)
"""In which thread an archived one goes on."""

ACCESS: Final = (
    sa.select(
        threads.c.house_id,
        threads.c.parent_thread_id,
        threads.c.stream_id,
        sa.func.coalesce(EXPIRED, sa.false()).label("is_expired"),
        sa.func.coalesce(threads.c.when_busy, houses.c.when_busy, "enqueue").label("when_busy"),
        agents.c.id.label("agent_id"),
        agents.c.handle,
        agents.c.config,
        agents.c.runner,
        TRIGGER_MODE.label("mode"),
        (agents.c.id == threads.c.parent_agent_id).label("is_direct"),
        _NEXT_ID.label("next_thread_id"),
    )
    .select_from(threads)
    .join(houses, houses.c.id == threads.c.house_id)
    .outerjoin(agents, agents.c.house_id == threads.c.house_id)
    .outerjoin(
        thread_agents,
        sa.and_(
            thread_agents.c.thread_id == threads.c.id, thread_agents.c.agent_id == agents.c.id
        ),
    )
    .where(threads.c.id == sa.bindparam("thread_id"))
    .order_by(agents.c.id)
)
"""One row per agent of the house; one row without agent where the house has none."""

AGENTS: Final = (
    sa.select(
        agents.c.id.label("agent_id"),
        agents.c.handle,
        TRIGGER_MODE.label("trigger_mode"),
        sa.case(
            (thread_agents.c.trigger_mode.is_not(None), "thread"),
            (agents.c.id == threads.c.parent_agent_id, "direct"),
            else_="house",
        ).label("source"),
    )
    .select_from(threads)
    .join(agents, agents.c.house_id == threads.c.house_id)
    .outerjoin(
        thread_agents,
        sa.and_(
            thread_agents.c.thread_id == threads.c.id, thread_agents.c.agent_id == agents.c.id
        ),
    )
    .where(threads.c.id == sa.bindparam("thread_id"))
    .order_by(agents.c.handle)
)

PROJECT: Final = sa.text("""
    with told as (
        select * from unnest(
            cast(:ids as uuid[]), cast(:chat as text[]), cast(:sub_job as text[]),
            cast(:usage as jsonb[]), cast(:stream_ids as text[])
        ) as told (id, chat_status, sub_job_status, usage, stream_id)
    ), held as (
        select id from threads where id = any(cast(:ids as uuid[]))
        order by id for no key update
    )
    update threads as row set
        status = case when row.parent_thread_id is null
            then told.chat_status else told.sub_job_status end,
        usage = told.usage,
        stream_id = told.stream_id,
        updated_at = now()
    from told join held using (id)
    where row.id = told.id and row.stream_id < told.stream_id collate "C"
""")
"""`held` takes the row locks in one order: two projectors of many rows cannot deadlock."""


def page_of(house_id: HouseId, where: ThreadFilter) -> sa.Select[Any]:
    """Select the house's threads that the filter asks for, newest first."""
    return (
        sa.select(threads)
        .where(threads.c.house_id == house_id, *_conditions(where))
        .order_by(threads.c.id.desc())
    )


def running(house_id: HouseId | None) -> sa.Select[Any]:
    """Select the rows that say `running`, of one house or of all, by id."""
    statement = sa.select(threads).where(_has_status("running")).order_by(threads.c.id)
    return statement if house_id is None else statement.where(threads.c.house_id == house_id)


def failed_lately(house_id: HouseId, *, within_seconds: float) -> sa.Select[Any]:
    """Select the house's rows that say `failed` and changed within that time, newest first."""
    since = sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, within_seconds)
    return (
        sa.select(threads)
        .where(
            threads.c.house_id == house_id,
            _has_status("failed"),
            threads.c.updated_at > since,
        )
        .order_by(threads.c.updated_at.desc())
    )


def guard(if_status: Collection[ThreadStatus]) -> Sequence[sa.ColumnElement[bool]]:
    """Return the condition that a thread has one of these statuses; none, if none is named."""
    return [threads.c.status.in_(if_status)] if if_status else []


def delete_below(
    thread_id: ThreadId, if_status: Collection[ThreadStatus]
) -> ReturningDelete[uuid.UUID]:
    """Delete a thread and all below it, whatever the depth, and return their ids."""
    top = sa.select(threads.c.id).where(threads.c.id == thread_id, *guard(if_status))
    tree = top.cte("tree", recursive=True)
    tree = tree.union(
        sa.select(threads.c.id).join(tree, threads.c.parent_thread_id == tree.c.id)
    )
    doomed = sa.delete(threads).where(threads.c.id.in_(sa.select(tree.c.id)))
    return doomed.returning(threads.c.id)


def has_key_prefix(prefix: str) -> sa.ColumnElement[bool]:
    """Return the condition that a thread's key begins so; keys are compared byte by byte."""
    return threads.c.key.startswith(prefix, autoescape=True)


def _conditions(where: ThreadFilter) -> Sequence[sa.ColumnElement[bool]]:
    chosen: Sequence[sa.ColumnElement[bool] | None] = (
        None if where.status is None else _has_status(where.status),
        None if where.tag is None else threads.c.tags.contains([where.tag]),
        None if where.parent is None else _has_parent(where.parent),
        None if where.pinned is None else threads.c.pinned_at.is_not(None) == where.pinned,
        None if where.name is None else threads.c.name.icontains(where.name, autoescape=True),
        None if where.key_prefix is None else has_key_prefix(where.key_prefix),
    )
    return [condition for condition in chosen if condition is not None]


def _has_status(status: ThreadStatus) -> sa.ColumnElement[bool]:
    """Write the word into the statement: a partial index is not matched by a parameter.

    Raises: KeyError for a word that is none of ours, which a door should have refused.
    """
    return threads.c.status == sa.literal_column(_STATUS_WORDS[status])


_STATUS_WORDS: Final[dict[ThreadStatus, str]] = {
    "open": "'open'",
    "idle": "'idle'",
    "running": "'running'",
    "completed": "'completed'",
    "failed": "'failed'",
    "cancelled": "'cancelled'",
}


def _has_parent(parent: Parent) -> sa.ColumnElement[bool]:
    match parent.kind:
        case "thread":
            return threads.c.parent_thread_id == uuid.UUID(parent.id)
        case "agent":
            return threads.c.parent_agent_id == uuid.UUID(parent.id)
        case "house":
            return threads.c.parent_thread_id.is_(None) & threads.c.parent_agent_id.is_(None)
