"""One way to run a statement on the pools that people have: asyncpg's and psycopg_pool's.

Statements carry `$1, $2 …`, which asyncpg wants and psycopg's raw cursors take. JSON goes as
text, so no codec that a pool's owner has set plays a part.
"""

import importlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import psycopg
from psycopg.rows import tuple_row

from dispatch.errors import Invalid, Unavailable

Row = Sequence[Any]


class Pool(Protocol):
    """What the Postgres storage needs of a pool."""

    async def rows(self, statement: str, *arguments: Any) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Raises: Unavailable; Invalid, when the table is not there or not the storage's.
        """
        ...


def over(pool: Any) -> Pool:
    """Return the way to this pool. Raises: Invalid, for what is no pool."""
    if hasattr(pool, "acquire"):
        return _Asyncpg(pool)
    if hasattr(pool, "connection"):
        return _Psycopg(pool)
    raise Invalid(
        f"{type(pool).__name__} is no pool of Postgres connections.",
        next_step="Give asyncpg's pool or psycopg_pool's AsyncConnectionPool.",
    )


class _Psycopg:
    """psycopg_pool's AsyncConnectionPool, or whatever lends psycopg's connections likewise."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def rows(self, statement: str, *arguments: Any) -> list[Row]:
        """See Pool."""
        async with _translated(psycopg.Error), self._pool.connection() as connection:
            cursor: psycopg.AsyncRawCursor[Row] = psycopg.AsyncRawCursor(
                connection, row_factory=tuple_row
            )
            async with cursor:
                await cursor.execute(statement.encode(), arguments or None)
                return list(await cursor.fetchall()) if cursor.description else []


class _Asyncpg:
    """asyncpg's pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        library = importlib.import_module("asyncpg")
        self._errors = (library.PostgresError, library.InterfaceError)

    async def rows(self, statement: str, *arguments: Any) -> list[Row]:
        """See Pool."""
        async with _translated(*self._errors), self._pool.acquire() as connection:
            if not arguments:  # several statements, which asyncpg runs as one transaction
                await connection.execute(statement)
                return []
            found: list[Row] = await connection.fetch(statement, *arguments)
            return found


_NOT_OURS: Final = {"42P01", "42703"}
"""Postgres's undefined_table and undefined_column."""
_BAD_VALUE: Final = ("22", "23")
"""Classes of its codes: data exceptions and broken constraints."""
_DENIED: Final = "42501"


@asynccontextmanager
async def _translated(*kinds: type[Exception]) -> AsyncGenerator[None]:
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise Unavailable("Postgres", cause=type(error).__name__) from error
    except kinds as error:
        raise _meaning(error, str(getattr(error, "sqlstate", None) or "")) from error


def _meaning(error: Exception, state: str) -> Exception:
    said = str(error).partition("\n")[0]
    if state in _NOT_OURS:
        return Invalid(
            f"The chats' table is not there or another's: {said}.",
            next_step="Call initialize_schema(), or give another table_name.",
        )
    if state == _DENIED or state.startswith(_BAD_VALUE):
        return Invalid(f"Postgres refuses this: {said}.")
    return Unavailable("Postgres", cause=type(error).__name__)
