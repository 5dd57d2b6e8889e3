"""Rows of threads: identity, place, labels, and a projection of what the stream tells.

Status, usage and watermark are written by `project` alone, under the worker's role, and never
go back in time. Nothing here knows whether a stream exists.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import Conflict, Gone, Invalid, NotFound
from dispatch.ids import AgentId, HouseId, SandboxId, ThreadId
from dispatch.models import policies
from dispatch.models.houses import WhenBusy
from dispatch.models.threads import (
    KeyedThread,
    Listener,
    NewThread,
    Projection,
    Thread,
    ThreadAccess,
    ThreadAgent,
    ThreadFilter,
    ThreadStatus,
    status_mismatch,
)
from dispatch.stores.postgres import agents, deletions, refusals, rows
from dispatch.stores.postgres import thread_statements as statements
from dispatch.stores.postgres.tables import threads

_KEYED_TRIES: Final = 5
"""Its thread may be deleted between our insert and our look: once is rare, five is never."""
_DM_LOCK: Final = sa.text("select pg_advisory_xact_lock(hashtextextended(:name, 0))")


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
    returned as it is; the other values of `new` are then ignored. One that has expired is not
    handed out: the key moves to the thread that is made now.
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
        # Waits for whoever moves the key at this moment; then nothing is left to be done.
        held = (threads.c.house_id == new.house_id, threads.c.key == new.key)
        await conn.execute(sa.update(threads).where(*held, statements.EXPIRED).values(key=None))
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
    row = (await conn.execute(statements.FIND, {"thread_id": thread_id})).mappings().first()
    return None if row is None else rows.thread(row)


async def get(conn: AsyncConnection, *, thread_id: ThreadId, lock: bool = False) -> Thread:
    """Return the thread.

    Args: lock: hold its row until the transaction ends, so that what is read may be changed.
    Raises: Gone when it was deleted; NotFound otherwise, also for one of another house.
    """
    statement = statements.FIND.with_for_update() if lock else statements.FIND
    row = (await conn.execute(statement, {"thread_id": thread_id})).mappings().first()
    if row is None:
        raise await _absence(conn, thread_id)
    return rows.thread(row)


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
    statement = statements.page_of(house_id, where or ThreadFilter())
    if before is not None:
        statement = statement.where(threads.c.id < before)
    found = await conn.execute(statement.limit(limit))
    return tuple(rows.thread(row) for row in found.mappings())


async def list_running(
    conn: AsyncConnection,
    *,
    house_id: HouseId | None = None,
    after_id: ThreadId | None = None,
    limit: int,
) -> tuple[Thread, ...]:
    """Return one page of the rows that say `running`, of one house or of all, by id."""
    statement = statements.running(house_id)
    if after_id is not None:
        statement = statement.where(threads.c.id > after_id)
    found = await conn.execute(statement.limit(limit))
    return tuple(rows.thread(row) for row in found.mappings())


async def list_visible(
    conn: AsyncConnection, *, thread_ids: Collection[ThreadId]
) -> frozenset[ThreadId]:
    """Return those of the threads that the caller sees."""
    found = await conn.scalars(sa.select(threads.c.id).where(threads.c.id.in_(thread_ids)))
    return frozenset(map(ThreadId, found))


async def update(  # noqa: PLR0913 - what may change, one each
    conn: AsyncConnection,
    *,
    thread_id: ThreadId,
    name: str | UnsetType | None = UNSET,
    pinned_at: datetime | UnsetType | None = UNSET,
    tags: Sequence[str] | UnsetType = UNSET,
    when_busy: WhenBusy | UnsetType | None = UNSET,
    config: dict[str, Any] | UnsetType = UNSET,
    metadata: dict[str, Any] | UnsetType = UNSET,
    expires_at: datetime | UnsetType | None = UNSET,
    if_status: Collection[ThreadStatus] = (),
) -> Thread:
    """Change what is given; `None` takes a name, a pin, a busy policy or an end away.

    Args: if_status: only while the row has one of these, if any.
    Raises: Gone, NotFound as `get`; Conflict (`status_mismatch`).
    """
    values = rows.given(
        name=name,
        pinned_at=pinned_at,
        tags=tags,
        when_busy=when_busy,
        config=config,
        metadata=metadata,
        expires_at=expires_at,
    )
    if not values:
        return await get(conn, thread_id=thread_id)
    statement = (
        sa.update(threads)
        .where(threads.c.id == thread_id, *statements.guard(if_status))
        .values({**values, "updated_at": sa.func.now()})
    )
    row = (await conn.execute(statement.returning(*threads.c))).mappings().first()
    if row is None:
        raise status_mismatch(thread_id, (await get(conn, thread_id=thread_id)).status)
    return rows.thread(row)


async def access(
    conn: AsyncConnection, *, thread_id: ThreadId, defaults: policies.Defaults
) -> ThreadAccess:
    """Prove that the caller may act on the thread, and tell whom its entries may wake.

    Promise: one statement, so the row and the listeners are of one moment.
    Args: defaults: for the limits that an agent's config does not name.
    Raises: Gone, NotFound as `get`.
    """
    found = (await conn.execute(statements.ACCESS, {"thread_id": thread_id})).mappings().all()
    if not found:
        raise await _absence(conn, thread_id)
    return ThreadAccess(
        thread_id=thread_id,
        house_id=found[0]["house_id"],
        is_sub_job=found[0]["parent_thread_id"] is not None,
        listeners=tuple(
            _listener(row, defaults) for row in found if row["agent_id"] is not None
        ),
        stream_id=found[0]["stream_id"],
        when_busy=found[0]["when_busy"],
        is_expired=found[0]["is_expired"],
        next_thread_id=found[0]["next_thread_id"],
    )


async def list_agents(conn: AsyncConnection, *, thread_id: ThreadId) -> tuple[ThreadAgent, ...]:
    """Return the agents of the thread's house by handle, each as this thread wakes it."""
    found = await conn.execute(statements.AGENTS, {"thread_id": thread_id})
    return tuple(ThreadAgent(**row) for row in found.mappings())


async def project(conn: AsyncConnection, *, projections: Sequence[Projection]) -> int:
    """Write what streams tell where the row knows nothing newer; tell how many rows changed.

    Promise: one statement, guarded by each row's watermark, so projectors may overtake each
    other and repeat themselves. A row that is gone is passed over. Needs the worker's role.
    Args: projections: at most one per thread.
    """
    done = await conn.execute(
        statements.PROJECT,
        {
            "ids": [each.thread_id for each in projections],
            "chat": [each.chat_status for each in projections],
            "sub_job": [each.sub_job_status for each in projections],
            "usage": [msgspec.json.encode(each.usage).decode() for each in projections],
            "stream_ids": [each.stream_id for each in projections],
        },
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


async def point_sandbox(
    conn: AsyncConnection,
    *,
    thread_id: ThreadId,
    before: SandboxId | None,
    sandbox_id: SandboxId,
) -> bool:
    """Point the thread at another sandbox than `before`; False if somebody else was first.

    Needs the worker's role. False too when the thread is gone.
    """
    done = await conn.execute(
        sa.update(threads)
        .where(threads.c.id == thread_id, threads.c.sandbox_id.is_not_distinct_from(before))
        .values(sandbox_id=sandbox_id, updated_at=sa.func.now())
    )
    return done.rowcount == 1


async def delete_tree(
    conn: AsyncConnection, *, thread_id: ThreadId, if_status: Collection[ThreadStatus] = ()
) -> tuple[ThreadId, ...]:
    """Remove the thread and all below it; return the threads whose streams must go now.

    Promise: one statement; a trigger notes each thread in `deletions` in the same transaction.
    A repeat returns the thread itself while its stream is not known to be gone, then nothing.
    A child born in this very moment falls too, by cascade, but may be missing in the answer:
    the sweep over open deletions finds it.
    Args: if_status: only while the thread's own row has one of these, if any.
    Raises: NotFound; Conflict (`primary_thread`, `status_mismatch`).
    """
    try:
        gone = (await conn.scalars(statements.delete_below(thread_id, if_status))).all()
    except exc.IntegrityError as error:
        raise refusals.broken_rule(error) from error
    if gone:
        return tuple(ThreadId(each) for each in gone)
    kept = await find(conn, thread_id=thread_id) if if_status else None
    if kept is not None:
        raise status_mismatch(thread_id, kept.status)
    noted = await deletions.find(conn, thread_id=thread_id)
    if noted is None:
        raise NotFound("thread", str(thread_id))
    return () if noted.done_at is not None else (thread_id,)


def _born(new: NewThread) -> dict[str, Any]:
    """Return the columns of a new row; its status is the one the insert policy asks for."""
    return {
        **msgspec.structs.asdict(new),
        "id": new.id or ids.uuid7(),
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


def _listener(row: RowMapping, defaults: policies.Defaults) -> Listener:
    return Listener(
        agent_id=row["agent_id"],
        handle=row["handle"],
        trigger_mode=row["mode"],
        queue=agents.queue_of(row["config"]),
        policy=policies.of(row["config"], defaults, runner=row["runner"]),
        is_direct=bool(row["is_direct"]),
    )
