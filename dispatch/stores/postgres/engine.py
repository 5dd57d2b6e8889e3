"""Connections: pools under one role each, and the doors to a transaction with an identity.

Nobody else opens a connection. A door is one transaction: it commits when its body ends well
and rolls back otherwise. The identity is set inside the transaction and ends with it, so a
pooled connection never carries the last caller over; the pool's reset is the second net.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeAlias

import msgspec
import psycopg
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dispatch import errors
from dispatch.config import Settings
from dispatch.ids import MemberId
from dispatch.stores.postgres import refusals

Role = Literal["arbe_api", "arbe_worker"]

Engine: TypeAlias = AsyncEngine
"""For those who hold one and need no SQLAlchemy."""
Connection: TypeAlias = AsyncConnection
"""Likewise."""

_RECYCLE_SECONDS: Final = 1800
"""A connection older than this is replaced at its next use: load balancers forget idle ones."""
_IDENTIFY: Final = sa.text("select set_config('arbe.member', :member, true)")


def make_engine(url: str, *, role: Role | None, settings: Settings) -> AsyncEngine:
    """Make a pool whose every connection runs as `role` and gives up in time.

    Args: role: None stays the login that the URL names: for a database that is not our own.
    Promise: connects at first use, not now. A connection that died, as all do when Postgres
    restarts, is noticed and replaced before a statement is sent on it.
    Raises: Invalid when the URL is none. The caller owns the engine and disposes of it.
    """
    address = driver_url(url)
    seconds = settings.database_timeout_seconds
    made = create_async_engine(
        address,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=seconds,
        pool_pre_ping=True,
        pool_recycle=_RECYCLE_SECONDS,
        json_serializer=_json,
        json_deserializer=msgspec.json.decode,
        connect_args=_connect_args(address, role=role, seconds=seconds),
    )
    event.listen(made.sync_engine, "reset", _forget_everything)
    return made


def driver_url(url: str) -> sa.URL:
    """Turn `postgresql://…` into the form that names our driver.

    Raises: Invalid for anything that is no Postgres URL; its text is not repeated, it may hold
    a password.
    """
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise errors.Invalid(
            "The database URL is missing or no Postgres URL.",
            next_step="Set DATABASE_URL to postgresql://user:password@host/database.",
        )
    return parsed.set(drivername="postgresql+psycopg")


@asynccontextmanager
async def as_member(
    engine: AsyncEngine, member_id: MemberId
) -> AsyncGenerator[AsyncConnection, None]:
    """Open one transaction that sees and may do what this member may.

    Raises: Unavailable when Postgres does not answer; Invalid, Forbidden as `refusals` tells.
    """
    async with _transaction(engine) as conn:
        await conn.execute(_IDENTIFY, {"member": str(member_id)})
        yield conn


@asynccontextmanager
async def as_nobody(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection, None]:
    """Open one transaction without an identity: to find a token's member.

    Promise: under the API's role every row stays invisible.
    Raises: as `as_member`.
    """
    async with _transaction(engine) as conn:
        yield conn


@asynccontextmanager
async def as_worker(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection, None]:
    """Open one transaction of a sweep or a projection, on an engine with the role arbe_worker.

    Promise: it sees every house and may write the few columns its role was granted.
    Raises: as `as_member`.
    """
    async with _transaction(engine) as conn:
        yield conn


@asynccontextmanager
async def borrow(engine: AsyncEngine) -> AsyncGenerator[psycopg.AsyncConnection[Any], None]:
    """Open one transaction on the driver's own connection, without an identity.

    Raises: as `as_member`; psycopg's errors stay what they are.
    """
    async with _transaction(engine) as conn:
        pooled: Any = await conn.get_raw_connection()
        yield pooled.driver_connection


async def check(engine: AsyncEngine) -> None:
    """Return if Postgres answers a statement. Raises: Unavailable."""
    async with as_nobody(engine) as conn:
        await conn.execute(sa.select(1))


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection, None]:
    try:
        async with engine.begin() as conn:
            yield conn
    except (exc.SQLAlchemyError, UnicodeEncodeError) as error:
        meaning = refusals.meaning_of(error)
        if meaning is None:
            raise
        raise meaning from error


def _connect_args(address: sa.URL, *, role: Role | None, seconds: float) -> dict[str, Any]:
    """Return libpq's parameters: every wait has an end, on our side and on the server's."""
    milliseconds = int(seconds * 1000)
    ours = {
        **({} if role is None else {"role": role}),
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds
        // 2,  # the one who waits gives up before its statement does
        "idle_in_transaction_session_timeout": milliseconds * 2,
        "timezone": "UTC",
    }
    theirs = address.query.get("options", "")
    options = theirs if isinstance(theirs, str) else " ".join(theirs)
    return {
        "connect_timeout": max(2, int(seconds)),  # libpq takes whole seconds, two at least
        "application_name": role or "arbe",
        "options": " ".join([options, *(f"-c {key}={value}" for key, value in ours.items())]),
        # A host that vanished without a word: unanswered bytes, or silence while we wait.
        "tcp_user_timeout": milliseconds,
        "keepalives_idle": max(1, int(seconds)),
        "keepalives_interval": max(1, int(seconds / 3)),
        "keepalives_count": 3,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _forget_everything(
    connection: Any,
    _record: object,
    state: sa.PoolResetState,
) -> None:
    """Wipe a connection on its way back into the pool, whatever its user did to it."""
    if state.terminate_only:
        return
    connection.rollback()
    connection.autocommit = True
    cursor = connection.cursor()
    try:
        cursor.execute("reset role; reset all")
    finally:
        cursor.close()
        connection.autocommit = False
