"""Rows of threads: identity, place, labels, and a projection of what the stream tells.

Status, usage and watermark are written by `project` alone, under the worker's role, and never
go back in time. Nothing here knows whether a stream exists.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids, task_names
from dispatch.errors import Conflict, Gone, Invalid, NotFound
from dispatch.ids import AgentId, HouseId, SandboxId, ThreadId
from dispatch.models.threads import (
    KeyedThread,
    Listener,
    NewThread,
    Parent,
    Projection,
    Thread,
    ThreadAccess,
    ThreadFilter,
    ThreadStatus,
)
from dispatch.stores.postgres import agents, deletions, refusals, rows
from dispatch.stores.postgres.tables import agents as _agents
from dispatch.stores.postgres.tables import thread_agents, threads

_KEYED_TRIES: Final = 5
"""Its thread may be deleted between our insert and our look: once is rare, five is never."""
_DM_LOCK: Final = sa.text("select pg_advisory_xact_lock(hashtextextended(:name, 0))")
_PROJECT: Final = sa.text("""
    update threads
    set status = case when parent_thread_id is null then chat else sub_job end,
        usage = told.usage, stream_id = told.mark, updated_at = now()
    from unnest(
        cast(:ids as uuid[]), cast(:chats as text[]), cast(:sub_jobs as text[]),
        cast(:usages as jsonb[]), cast(:marks as text[])
    ) as told (id, chat, sub_job, usage, mark)
    where threads.id = told.id and threads.stream_id < told.mark collate "C"
""")
_FIND: Final = sa.select(threads).where(threads.c.id == sa.bindparam("thread_id"))
_ACCESS: Final = (
    sa.select(
        threads.c.house_id,
        threads.c.parent_thread_id,
        threads.c.stream_id,
        _agents.c.id.label("agent_id"),
        _agents.c.handle,
        _agents.c.config,
        sa.func.coalesce(thread_agents.c.trigger_mode, _agents.c.trigger_mode).label("mode"),
    )
    .select_from(threads)
    .outerjoin(_agents, _agents.c.house_id == threads.c.house_id)
    .outerjoin(
        thread_agents,
        sa.and_(
            thread_agents.c.thread_id == threads.c.id, thread_agents.c.agent_id == _agents.c.id
        ),
    )
    .where(threads.c.id == sa.bindparam("thread_id"))
    .order_by(_agents.c.id)
)


async def insert(conn: AsyncConnection, *, new: NewThread) -> Thread:
    """Add a thread at rest: a sub-job `idle`, any other `open`. Nothing is dispatched.

    Promise: a thread whose parent is an agent wakes that agent with every entry.
    Raises: NotFound when parent or environment are not of this house; Conflict (`key_taken`).
    """
    statement = sa.insert(threads).values(_born(new)).returning(*threads.c)
    try:
        row = (await conn.execute(statement)).mappings().one()
    except exc.IntegrityError as error:
        raise _missing(error, new) from error
    return await _made(conn, row)


async def insert_keyed(conn: AsyncConnection, *, new: NewThread) -> KeyedThread:
    """Get the house's thread with this key, or make it; one call, however many at once.

    Promise: of concurrent calls with one key exactly one says `created`. What is there is
    returned as it is; the other values of `new` are then ignored.
    Raises: Invalid without a key; NotFound as `insert`.
    """
    if new.key is None:
        raise Invalid("A keyed thread needs a key.")
    statement = (
        upsert(threads)
        .values(_born(new))
        .on_conflict_do_nothing(constraint="threads_key_key")
        .returning(*threads.c)
    )
    for _ in range(_KEYED_TRIES):
        try:
            row = (await conn.execute(statement)).mappings().first()
        except exc.IntegrityError as error:
            raise _missing(error, new) from error
        if row is not None:
            return KeyedThread(thread=await _made(conn, row), created=True)
        found = await find_keyed(conn, house_id=new.house_id, key=new.key)
        if found is not None:
            return KeyedThread(thread=found, created=False)
    raise Conflict("key_unsettled", "The key's thread is being made and deleted over and over.")


async def insert_dm(
    conn: AsyncConnection, *, house_id: HouseId, agent_id: AgentId
) -> KeyedThread:
    """Get the oldest direct thread with the agent, or make one; one call, however many at once.

    Promise: an advisory lock on the agent, until the transaction ends, makes callers queue; a
    plain `insert` does not take it and may always add one more.
    Raises: NotFound when the agent is not of this house.
    """
    found = await find_dm(conn, house_id=house_id, agent_id=agent_id)
    if found is None:
        await conn.execute(_DM_LOCK, {"name": f"arbe.dm:{agent_id}"})
        found = await find_dm(conn, house_id=house_id, agent_id=agent_id)
    if found is not None:
        return KeyedThread(thread=found, created=False)
    made = await insert(conn, new=NewThread(house_id=house_id, parent_agent_id=agent_id))
    return KeyedThread(thread=made, created=True)


async def find(conn: AsyncConnection, *, thread_id: ThreadId) -> Thread | None:
    """Return the thread, or None if it is not there for this caller."""
    row = (await conn.execute(_FIND, {"thread_id": thread_id})).mappings().first()
    return None if row is None else rows.thread(row)


async def get(conn: AsyncConnection, *, thread_id: ThreadId) -> Thread:
    """Return the thread.

    Raises: Gone when it was deleted; NotFound otherwise, also for one of another house.
    """
    found = await find(conn, thread_id=thread_id)
    if found is None:
        raise await _absence(conn, thread_id)
    return found


async def find_keyed(conn: AsyncConnection, *, house_id: HouseId, key: str) -> Thread | None:
    """Return the house's thread with this key, or None."""
    statement = sa.select(threads).where(threads.c.house_id == house_id, threads.c.key == key)
    row = (await conn.execute(statement)).mappings().first()
    return None if row is None else rows.thread(row)


async def find_dm(
    conn: AsyncConnection, *, house_id: HouseId, agent_id: AgentId
) -> Thread | None:
    """Return the oldest direct thread with the agent, or None."""
    statement = (
        sa.select(threads)
        .where(threads.c.house_id == house_id, threads.c.parent_agent_id == agent_id)
        .order_by(threads.c.id)
        .limit(1)
    )
    row = (await conn.execute(statement)).mappings().first()
    return None if row is None else rows.thread(row)


async def list(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    where: ThreadFilter | None = None,
    before: ThreadId | None = None,
    limit: int,
) -> tuple[Thread, ...]:
    """Return one page of the house's threads, newest first, older than `before`.

    Promise: a thread that is there all the while stands on exactly one page, whatever is
    created or deleted between two of them.
    """
    statement = sa.select(threads).where(
        threads.c.house_id == house_id, *_conditions(where or ThreadFilter())
    )
    if before is not None:
        statement = statement.where(threads.c.id < before)
    found = await conn.execute(statement.order_by(threads.c.id.desc()).limit(limit))
    return tuple(rows.thread(row) for row in found.mappings())


async def list_running(
    conn: AsyncConnection,
    *,
    house_id: HouseId | None = None,
    after_id: ThreadId | None = None,
    limit: int,
) -> tuple[Thread, ...]:
    """Return one page of the rows that say `running`, of one house or all, by id; for sweeps."""
    statement = sa.select(threads).where(_has_status("running"))
    if house_id is not None:
        statement = statement.where(threads.c.house_id == house_id)
    if after_id is not None:
        statement = statement.where(threads.c.id > after_id)
    found = await conn.execute(statement.order_by(threads.c.id).limit(limit))
    return tuple(rows.thread(row) for row in found.mappings())


async def update(
    conn: AsyncConnection,
    *,
    thread_id: ThreadId,
    name: str | UnsetType | None = UNSET,
    pinned_at: datetime | UnsetType | None = UNSET,
    tags: Sequence[str] | UnsetType = UNSET,
) -> Thread:
    """Change what is given; `None` takes a name or a pin away.

    Raises: Gone, NotFound as `get`.
    """
    values = rows.given(name=name, pinned_at=pinned_at, tags=tags)
    if not values:
        return await get(conn, thread_id=thread_id)
    statement = (
        sa.update(threads)
        .where(threads.c.id == thread_id)
        .values({**values, "updated_at": sa.func.now()})
    )
    row = (await conn.execute(statement.returning(*threads.c))).mappings().first()
    if row is None:
        raise await _absence(conn, thread_id)
    return rows.thread(row)


async def access(
    conn: AsyncConnection, *, thread_id: ThreadId, max_attempts: int
) -> ThreadAccess:
    """Prove that the caller may act on the thread, and tell whom its entries may wake.

    Promise: one statement, so the row and the listeners are of one moment.
    Args: max_attempts: for agents whose config has no `maxAttempts`.
    Raises: Gone, NotFound as `get`.
    """
    found = (await conn.execute(_ACCESS, {"thread_id": thread_id})).mappings().all()
    if not found:
        raise await _absence(conn, thread_id)
    return ThreadAccess(
        thread_id=thread_id,
        house_id=found[0]["house_id"],
        is_sub_job=found[0]["parent_thread_id"] is not None,
        listeners=tuple(
            _listener(row, max_attempts) for row in found if row["agent_id"] is not None
        ),
        stream_id=found[0]["stream_id"],
    )


async def project(conn: AsyncConnection, *, projections: Sequence[Projection]) -> int:
    """Write what streams tell, unless a row knows something newer; tell how many rows changed.

    Promise: one statement, guarded by each row's watermark, so projectors may overtake each
    other and repeat themselves; a row that is gone is skipped. Needs the worker's role.
    """
    done = await conn.execute(
        _PROJECT,
        {
            "ids": [each.thread_id for each in projections],
            "chats": [each.chat_status for each in projections],
            "sub_jobs": [each.sub_job_status for each in projections],
            "usages": [msgspec.json.encode(each.usage).decode() for each in projections],
            "marks": [each.stream_id for each in projections],
        },
    )
    return done.rowcount


async def fail_orphans(conn: AsyncConnection, *, thread_ids: Sequence[ThreadId]) -> int:
    """Set rows that say `running` without having a stream to `failed`; tell how many.

    Needs the worker's role. The watermark stays: it proves that there was a stream.
    """
    done = await conn.execute(
        sa.update(threads)
        .where(threads.c.id.in_(thread_ids), _has_status("running"))
        .values(status="failed", updated_at=sa.func.now())
    )
    return done.rowcount


async def set_sandbox(
    conn: AsyncConnection, *, thread_id: ThreadId, sandbox_id: SandboxId | None
) -> bool:
    """Point the thread at the sandbox its commands run in; False if it is gone.

    Needs the worker's role. Raises: NotFound when the sandbox is not of this house.
    """
    statement = sa.update(threads).where(threads.c.id == thread_id)
    try:
        done = await conn.execute(
            statement.values(sandbox_id=sandbox_id, updated_at=sa.func.now())
        )
    except exc.IntegrityError as error:
        raise refusals.missing(error, threads_sandbox_fkey=("sandbox", sandbox_id)) from error
    return done.rowcount == 1


async def delete_tree(conn: AsyncConnection, *, thread_id: ThreadId) -> tuple[ThreadId, ...]:
    """Remove the thread and all below it; return the threads whose streams must go now.

    Promise: one statement; a trigger notes each thread in `deletions` in the same transaction.
    A repeat returns the thread itself while its stream is not known to be gone, then nothing.
    A child born in this very moment falls too, by cascade, but may be missing in the answer:
    the sweep over open deletions finds it.
    Raises: NotFound; Conflict (`primary_thread`).
    """
    tree = sa.select(threads.c.id).where(threads.c.id == thread_id).cte("tree", recursive=True)
    tree = tree.union(
        sa.select(threads.c.id).join(tree, threads.c.parent_thread_id == tree.c.id)
    )
    statement = sa.delete(threads).where(threads.c.id.in_(sa.select(tree.c.id)))
    try:
        gone = (await conn.scalars(statement.returning(threads.c.id))).all()
    except exc.IntegrityError as error:
        raise refusals.broken_rule(error) from error
    if gone:
        return tuple(ThreadId(each) for each in gone)
    noted = await deletions.find(conn, thread_id=thread_id)
    if noted is None:
        raise NotFound("thread", str(thread_id))
    return () if noted.done_at is not None else (thread_id,)


def _born(new: NewThread) -> dict[str, Any]:
    """Return the columns of a new row; its status is the one the insert policy asks for."""
    return {
        **msgspec.structs.asdict(new),
        "id": ids.uuid7(),
        "status": "open" if new.parent_thread_id is None else "idle",
    }


async def _made(conn: AsyncConnection, row: RowMapping) -> Thread:
    """Turn the row just inserted into a value; let a direct thread always wake its agent."""
    made = rows.thread(row)
    if made.parent_agent_id is not None:
        await agents.set_override(
            conn,
            house_id=made.house_id,
            thread_id=made.id,
            agent_id=made.parent_agent_id,
            trigger_mode="always",
        )
    return made


def _missing(error: exc.IntegrityError, new: NewThread) -> Exception:
    return refusals.missing(
        error,
        threads_parent_thread_fkey=("thread", new.parent_thread_id),
        threads_parent_agent_fkey=("agent", new.parent_agent_id),
        threads_environment_fkey=("environment", new.environment_id),
    )


async def _absence(conn: AsyncConnection, thread_id: ThreadId) -> Gone | NotFound:
    """Tell why there is no row: deleted, or nothing this caller may know of."""
    if await deletions.find(conn, thread_id=thread_id) is not None:
        return Gone(str(thread_id))
    return NotFound("thread", str(thread_id))


def _conditions(where: ThreadFilter) -> Sequence[sa.ColumnElement[bool]]:
    chosen: Sequence[tuple[object, sa.ColumnElement[bool] | None]] = (
        (where.status, None if where.status is None else _has_status(where.status)),
        (where.tag, threads.c.tags.contains([where.tag])),
        (where.parent, None if where.parent is None else _has_parent(where.parent)),
        (where.pinned, threads.c.pinned_at.is_not(None) == where.pinned),
        (where.name, threads.c.name.icontains(where.name or "", autoescape=True)),
    )
    return [part for given, part in chosen if given is not None and part is not None]


def _has_status(status: ThreadStatus) -> sa.ColumnElement[bool]:
    """Write the word into the statement: a partial index is not matched by a parameter."""
    return threads.c.status == sa.literal_column(f"'{status}'")


def _has_parent(parent: Parent) -> sa.ColumnElement[bool]:
    match parent.kind:
        case "thread":
            return threads.c.parent_thread_id == uuid.UUID(parent.id)
        case "agent":
            return threads.c.parent_agent_id == uuid.UUID(parent.id)
        case "house":
            return threads.c.parent_thread_id.is_(None) & threads.c.parent_agent_id.is_(None)


def _listener(row: RowMapping, max_attempts: int) -> Listener:
    queue, attempts = row["config"].get("queue"), row["config"].get("maxAttempts")
    return Listener(
        agent_id=row["agent_id"],
        handle=row["handle"],
        trigger_mode=row["mode"],
        queue=queue if isinstance(queue, str) and queue else task_names.TURNS_QUEUE,
        max_attempts=attempts if isinstance(attempts, int) and attempts > 0 else max_attempts,
    )
