"""Rows of API tokens: a SHA-256 each, never the token. Nobody can read a digest back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import NotFound
from dispatch.ids import HouseId, MemberId, TokenId
from dispatch.models.houses import Caller, Token
from dispatch.stores.postgres import refusals, rows
from dispatch.stores.postgres.tables import tokens

_SHOWN: Final[Sequence[sa.Column[Any]]] = [
    column for column in tokens.c if column.name not in {"digest", "house_id"}
]
_FIND_CALLER: Final = sa.text("select * from arbe_find_caller(:digest)")


async def find_caller(conn: AsyncConnection, *, digest: str) -> Caller | None:
    """Tell whom a token speaks for; None alike for unknown, expired and revoked ones.

    Promise: needs no identity. Notes the use at most once a minute and waits for no lock.
    Args: digest: SHA-256 of the token's text, in hex.
    """
    row = (await conn.execute(_FIND_CALLER, {"digest": digest})).mappings().first()
    return None if row is None else Caller(**row)


async def insert(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    member_id: MemberId,
    name: str,
    digest: str,
    expires_at: datetime | None = None,
    token_id: TokenId | None = None,
) -> Token:
    """Add a token for oneself, or as an owner for any member of the house.

    Args: token_id: reserved before; None: chosen now.
    Raises: Forbidden (at the door) for anyone else's; NotFound for no member of this house.
    """
    statement = sa.insert(tokens).values(
        id=token_id or ids.uuid7(),
        house_id=house_id,
        member_id=member_id,
        name=name,
        digest=digest,
        expires_at=expires_at,
    )
    try:
        row = (await conn.execute(statement.returning(*_SHOWN))).mappings().one()
    except exc.IntegrityError as error:
        raise refusals.missing(error, tokens_member_fkey=("member", member_id)) from error
    return rows.token(row)


async def list(
    conn: AsyncConnection, *, house_id: HouseId, before: TokenId | None = None, limit: int
) -> tuple[Token, ...]:
    """Return one page of the tokens the caller may see, newest first: own ones, or all."""
    statement = sa.select(*_SHOWN).where(tokens.c.house_id == house_id)
    if before is not None:
        statement = statement.where(tokens.c.id < before)
    found = await conn.execute(statement.order_by(tokens.c.id.desc()).limit(limit))
    return tuple(rows.token(row) for row in found.mappings())


async def delete_unheard(conn: AsyncConnection, *, token_id: TokenId) -> None:
    """Remove a token whose text nobody was told, if it was made at all.

    Promise: for the holder of the claim that reserved its id; the one minted next has that id.
    """
    await conn.execute(sa.delete(tokens).where(tokens.c.id == token_id))


async def delete(conn: AsyncConnection, *, token_id: TokenId) -> None:
    """Revoke a token.

    Promise: no lookup after the commit finds it; what processes cached ends with their cache.
    Raises: NotFound, also when repeated and for another member's.
    """
    done = await conn.execute(sa.delete(tokens).where(tokens.c.id == token_id))
    if done.rowcount == 0:
        raise NotFound("token", str(token_id))
