"""Rows of houses. A house is founded whole, by one definer function, or not at all."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import NotFound
from dispatch.ids import HouseId, MemberId, ThreadId, TokenId
from dispatch.models.houses import FoundedHouse, House, Member, Token, WhenBusy
from dispatch.stores.postgres import rows
from dispatch.stores.postgres.tables import houses

_CREATE: Final = sa.text("""
    select arbe_create_house(
        :house_id, :name, :thread_id, :member_id, :owner_name, :token_id, :token_name,
        :digest, cast(:expires_at as timestamptz)
    )
""")

_CREATE_AGAIN: Final = sa.text("select * from arbe_refound_house(:house_id, :digest)")


async def create(
    conn: AsyncConnection,
    *,
    name: str,
    owner_name: str,
    token_name: str,
    digest: str,
    expires_at: datetime | None = None,
    house_id: HouseId | None = None,
) -> FoundedHouse:
    """Found a house with its primary thread, its owner and the owner's first token.

    Promise: one statement makes all four or none; each call makes another house. Needs no
    identity: who may found houses is decided at the API's door.
    Args: digest: SHA-256 of the token's text, in hex. house_id: reserved before; None: chosen
    now.
    """
    house_id, thread_id = house_id or HouseId(ids.uuid7()), ThreadId(ids.uuid7())
    member_id, token_id = MemberId(ids.uuid7()), TokenId(ids.uuid7())
    now: datetime = await conn.scalar(
        _CREATE,
        {
            "house_id": house_id,
            "name": name,
            "thread_id": thread_id,
            "member_id": member_id,
            "owner_name": owner_name,
            "token_id": token_id,
            "token_name": token_name,
            "digest": digest,
            "expires_at": expires_at,
        },
    )
    return FoundedHouse(
        house=House(id=house_id, name=name, primary_thread_id=thread_id, created_at=now),
        owner=Member(
            id=member_id, house_id=house_id, name=owner_name, role="owner", created_at=now
        ),
        token=Token(
            id=token_id,
            member_id=member_id,
            name=token_name,
            created_at=now,
            expires_at=expires_at,
        ),
    )


async def create_again(
    conn: AsyncConnection, *, house_id: HouseId, digest: str
) -> FoundedHouse | None:
    """Return the house that a call founded which died before its answer, or None.

    Promise: its owner's first token, whose text nobody heard, has this digest from now on. Only
    for the claim that reserved the house's id, and who holds it.
    """
    values = {"house_id": house_id, "digest": digest}
    row = (await conn.execute(_CREATE_AGAIN, values)).mappings().first()
    if row is None:
        return None
    now = row["created_at"]
    return FoundedHouse(
        house=House(
            id=house_id,
            name=row["house_name"],
            primary_thread_id=row["thread_id"],
            created_at=now,
        ),
        owner=Member(
            id=row["member_id"],
            house_id=house_id,
            name=row["member_name"],
            role="owner",
            created_at=now,
        ),
        token=Token(
            id=row["token_id"],
            member_id=row["member_id"],
            name=row["token_name"],
            created_at=now,
        ),
    )


async def get(conn: AsyncConnection, *, house_id: HouseId) -> House:
    """Return the house.

    Raises: NotFound, also for a house the caller is no member of.
    """
    row = (
        (await conn.execute(sa.select(houses).where(houses.c.id == house_id)))
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound("house", str(house_id))
    return rows.house(row)


async def update(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    name: str | UnsetType = UNSET,
    when_busy: WhenBusy | UnsetType | None = UNSET,
) -> House:
    """Change what is given; an owner's right.

    Raises: NotFound, also for a caller who is no owner of it.
    """
    values = rows.given(name=name, when_busy=when_busy)
    if not values:
        return await get(conn, house_id=house_id)
    statement = sa.update(houses).where(houses.c.id == house_id).values(values)
    row = (await conn.execute(statement.returning(*houses.c))).mappings().first()
    if row is None:
        raise NotFound("house", str(house_id))
    return rows.house(row)
