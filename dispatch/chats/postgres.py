"""Chats in Postgres: one row each, removed by a cleanup when a closed chat's time is over.

`PostgreSQLChatStorage` takes asyncpg's pool or psycopg_pool's. Every method is one statement;
the row's lock makes it atomic, and times are Postgres's own.
"""

import re
from datetime import UTC
from importlib import resources
from typing import Any, Final

import msgspec

from dispatch.chats import pools
from dispatch.chats.chat import RETENTION_SECONDS, Chat, Metadata, Page
from dispatch.chats.pools import Row
from dispatch.errors import Invalid

_TABLE_NAME: Final = re.compile(r"(?:[a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]{0,47}")
_COLUMNS: Final = (
    "chat_id, status, target_agent, metadata::text, created_at, updated_at,"
    " closed_at, expires_at, reason"
)
_LAST_CHARACTER: Final = "\U0010ffff"


class PostgreSQLChatStorage:
    """Chats of one table. The caller owns the pool and closes it."""

    def __init__(self, pool: Any, table_name: str = "arc_chats") -> None:
        """Args: table_name: lower case, perhaps with its schema. Raises: Invalid."""
        if not _TABLE_NAME.fullmatch(table_name):
            raise Invalid(
                f"'{table_name[:80]}' is no name for a table.",
                next_step="Use lower case letters, digits and _, after a schema if need be.",
            )
        self._pool = pools.over(pool)
        self._table = table_name

    async def initialize_schema(self) -> None:
        """Make the table and its indexes, unless it is there; safe by several at once."""
        (row,) = await self._pool.rows("select to_regclass($1::text)::text", self._table)
        if row[0] is not None:  # then a login that may make none is enough
            return
        text = resources.files("dispatch.chats").joinpath("schema.sql").read_text("utf-8")
        name = self._table.rpartition(".")[2]
        await self._pool.rows(text.replace("{table}", self._table).replace("{name}", name))

    async def insert(
        self, chat_id: str, *, target_agent: str, metadata: Metadata
    ) -> Chat | None:
        """See ChatStorage. A closed chat past its time makes room."""
        return await self._one(
            f"""
            insert into {self._table} as kept (chat_id, status, target_agent, metadata)
            values ($1, 'ACTIVE', $2, $3::text::jsonb)
            on conflict (chat_id) do update set
                status = 'ACTIVE', target_agent = excluded.target_agent,
                metadata = excluded.metadata, created_at = now(), updated_at = now(),
                closed_at = null, expires_at = null, reason = null
            where kept.expires_at <= now()
            returning {_COLUMNS}""",  # noqa: S608 - a name that was checked
            chat_id,
            target_agent,
            _json(metadata),
        )

    async def find(self, chat_id: str) -> Chat | None:
        """See ChatStorage."""
        return await self._one(
            f"select {_COLUMNS} from {self._table}"  # noqa: S608
            " where chat_id = $1 and (expires_at is null or expires_at > now())",
            chat_id,
        )

    async def merge(self, chat_id: str, *, metadata: Metadata) -> Chat | None:
        """See ChatStorage."""
        return await self._one(
            f"""
            update {self._table} set metadata = metadata || $2::text::jsonb,
                updated_at = greatest(updated_at, now())
            where chat_id = $1 and status = 'ACTIVE'
            returning {_COLUMNS}""",  # noqa: S608
            chat_id,
            _json(metadata),
        )

    async def close(
        self, chat_id: str, *, reason: str | None, ttl_seconds: float
    ) -> Chat | None:
        """See ChatStorage."""
        return await self._one(
            f"""
            update {self._table} set status = 'CLOSED', reason = $2, closed_at = now(),
                expires_at = now() + make_interval(secs => $3::float8),
                updated_at = greatest(updated_at, now())
            where chat_id = $1 and status = 'ACTIVE'
            returning {_COLUMNS}""",  # noqa: S608
            chat_id,
            reason,
            ttl_seconds,
        )

    async def list_active(self, *, prefix: str, after_id: str, limit: int) -> Page:
        """See ChatStorage."""
        found = await self._pool.rows(
            f"""
            select {_COLUMNS} from {self._table}
            where status = 'ACTIVE' and chat_id >= $1 and chat_id <= $2 and chat_id > $3
            order by chat_id limit $4::bigint""",  # noqa: S608
            prefix,
            prefix + _LAST_CHARACTER,
            after_id,
            limit,
        )
        return Page(
            [_chat(row) for row in found], found[-1][0] if len(found) == limit else None
        )

    async def delete_closed(self, *, max_age_seconds: float, limit: int) -> int:
        """See ChatStorage. One short transaction; rows another cleanup holds are skipped."""
        (row,) = await self._pool.rows(
            f"""
            with gone as (
                delete from {self._table} where ctid = any(array(
                    select ctid from {self._table} where {_OVER}
                    order by expires_at limit $3::bigint for update skip locked
                )) returning 1
            ) select count(*) from gone""",  # noqa: S608
            _early_seconds(max_age_seconds),
            RETENTION_SECONDS,
            limit,
        )
        return int(row[0])

    async def count_closed(self, *, max_age_seconds: float) -> int:
        """See ChatStorage."""
        (row,) = await self._pool.rows(
            f"select count(*) from {self._table} where {_OVER}",  # noqa: S608
            _early_seconds(max_age_seconds),
            RETENTION_SECONDS,
        )
        return int(row[0])

    async def _one(self, statement: str, *arguments: Any) -> Chat | None:
        found = await self._pool.rows(statement, *arguments)
        return _chat(found[0]) if found else None


_OVER: Final = (
    "expires_at <= now() + make_interval(secs => $1::float8) and (expires_at <= now()"
    " or expires_at = closed_at + make_interval(secs => $2::float8))"
)


def _early_seconds(max_age_seconds: float) -> float:
    """Return how long before its time a chat with the usual retention may go."""
    return max(0.0, RETENTION_SECONDS - max_age_seconds)


def _json(metadata: Metadata) -> str:
    return msgspec.json.encode(metadata).decode()


def _chat(row: Row) -> Chat:
    chat_id, status, target_agent, metadata, *found, reason = row
    # psycopg gives them in the session's time zone.
    moments: list[Any] = [None if each is None else each.astimezone(UTC) for each in found]
    return Chat(
        chat_id=chat_id,
        status=status,
        target_agent=target_agent,
        metadata=msgspec.json.decode(metadata),
        created_at=moments[0],
        updated_at=moments[1],
        closed_at=moments[2],
        expires_at=moments[3],
        reason=reason,
    )
