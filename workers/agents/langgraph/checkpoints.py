"""LangGraph's own Postgres checkpointer on our database, in a schema of its own.

One small pool per process and loop, opened at the first use: a turn holds no connection while
it waits.
"""

import asyncio
from typing import Any, Final, cast
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from dispatch.errors import Invalid, Unavailable
from dispatch.ids import ThreadId
from workers.agents import ListDeleted

SCHEMA: Final = "langgraph"
_MAX_CONNECTIONS: Final = 8
"""As `database_pool_size`: a graph's step takes a connection for milliseconds."""
_WAIT_SECONDS: Final = 10.0
_LOCK: Final = 4_611_686_018_427_387_911
"""Of Postgres's advisory locks: whoever makes the tables. A number nobody else takes."""
_LOCK_SECONDS: Final = 0.2
_PAGE: Final = """
    with recursive found (thread_id) as (
        (select thread_id from checkpoints where thread_id > %s order by thread_id limit 1)
        union all
        select (
            select thread_id from checkpoints
            where thread_id > found.thread_id order by thread_id limit 1
        )
        from found where found.thread_id is not null
    )
    select thread_id from found where thread_id is not null limit %s
"""
"""One step of the index per thread: a thread has hundreds of checkpoints."""
_Pool = AsyncConnectionPool[AsyncConnection[DictRow]]
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Pool]] = WeakKeyDictionary()
_opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def saver(database_url: str) -> AsyncPostgresSaver:
    """Return a checkpointer whose tables are there.

    Raises: Invalid (no right to make the schema), Unavailable.
    """
    loop = asyncio.get_running_loop()
    async with _opening.setdefault(loop, asyncio.Lock()):
        pools = _pools.setdefault(loop, {})
        if database_url not in pools:
            pools[database_url] = await _opened(database_url)
    return AsyncPostgresSaver(cast("Any", pools[database_url]))


async def close() -> None:
    """Give this loop's connections back; for a worker that leaves."""
    for pool in _pools.pop(asyncio.get_running_loop(), {}).values():
        await pool.close()


async def forget(list_deleted: ListDeleted, batch: int) -> int:
    """Remove the checkpoints of deleted threads from the databases that this loop has used.

    Raises: Unavailable.
    """
    count = 0
    for pool in list(_pools.get(asyncio.get_running_loop(), {}).values()):
        try:
            count += await _forget(pool, list_deleted, batch)
        except (psycopg.Error, PoolTimeout) as error:
            raise Unavailable("Postgres", cause=type(error).__name__) from error
    return count


async def _forget(pool: _Pool, list_deleted: ListDeleted, batch: int) -> int:
    count, after = 0, ""
    checkpointer = AsyncPostgresSaver(cast("Any", pool))
    while True:
        async with pool.connection() as connection:
            rows = await (await connection.execute(_PAGE, [after, batch])).fetchall()
        ours = {row["thread_id"]: _thread_of(row["thread_id"]) for row in rows}
        deleted = await list_deleted({each for each in ours.values() if each is not None})
        over = [name for name, thread_id in ours.items() if thread_id in deleted]
        for name in over:
            await checkpointer.adelete_thread(name)
        count += len(over)
        if len(rows) < batch:
            return count
        after = rows[-1]["thread_id"]


def _thread_of(name: str) -> ThreadId | None:
    """Return our thread in LangGraph's thread id; None: it is somebody else's."""
    thread_id, _, agent_id = name.partition(":")
    try:
        return ThreadId(UUID(thread_id)) if UUID(agent_id) else None
    except ValueError:
        return None


async def _opened(database_url: str) -> _Pool:
    url = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    pool: _Pool = AsyncConnectionPool(
        url,
        connection_class=AsyncConnection[DictRow],
        min_size=0,
        max_size=_MAX_CONNECTIONS,
        timeout=_WAIT_SECONDS,
        open=False,
        check=cast("Any", AsyncConnectionPool).check_connection,
        kwargs={
            "autocommit": True,
            "prepare_threshold": 0,
            "row_factory": dict_row,
            "application_name": "arbe_langgraph",
            "options": f"-c search_path={SCHEMA}",
            "connect_timeout": int(_WAIT_SECONDS),
        },
    )
    try:
        await pool.open()
        await _set_up(pool)
    except (psycopg.OperationalError, PoolTimeout) as error:
        await pool.close()
        raise Unavailable("Postgres", cause=type(error).__name__) from error
    except psycopg.errors.InsufficientPrivilege as error:
        await pool.close()
        raise Invalid(
            f"The database's user may not make the schema '{SCHEMA}'.",
            next_step=f"Let an administrator run: create schema {SCHEMA} authorization <user>.",
        ) from error
    return pool


async def _set_up(pool: _Pool) -> None:
    """Make or upgrade LangGraph's tables, one process at a time.

    It is polled for: a session that waited for the lock would be waited for by the indexes
    that are made concurrently.
    """
    async with pool.connection() as connection:
        if await _is_set_up(connection):
            return
        lock = f"select pg_try_advisory_lock({_LOCK})"
        while not await _one(connection, lock):  # noqa: ASYNC110  # another process has it
            await asyncio.sleep(_LOCK_SECONDS)
        try:
            if not await _one(connection, f"select to_regnamespace('{SCHEMA}')"):
                await connection.execute(sql.SQL(f"create schema {SCHEMA}"))
            await AsyncPostgresSaver(cast("Any", connection)).setup()
        finally:
            await _one(connection, f"select pg_advisory_unlock({_LOCK})")


async def _is_set_up(connection: AsyncConnection[DictRow]) -> bool:
    if not await _one(connection, f"select to_regclass('{SCHEMA}.checkpoint_migrations')"):
        return False
    version = await _one(connection, "select max(v) from checkpoint_migrations")
    return bool(version == len(AsyncPostgresSaver.MIGRATIONS) - 1)


async def _one(connection: AsyncConnection[DictRow], query: str) -> Any:
    row = await (await connection.execute(cast("Any", query))).fetchone()
    return None if row is None else next(iter(row.values()))
