"""Rows of members. Owners manage them; a house always keeps one owner."""

import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import Conflict, NotFound
from dispatch.ids import HouseId, MemberId
from dispatch.models.houses import Member, Role
from dispatch.stores.postgres import rows
from dispatch.stores.postgres.tables import members


async def insert(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    name: str,
    role: Role = "member",
    member_id: MemberId | None = None,
) -> Member:
    """Add a person to the house; an owner's right.

    Args: member_id: reserved before; None: chosen now.
    Raises: Forbidden (at the door) for anyone else.
    """
    statement = sa.insert(members).values(
        id=member_id or ids.uuid7(), house_id=house_id, name=name, role=role
    )
    row = (await conn.execute(statement.returning(*members.c))).mappings().one()
    return rows.member(row)


async def get(conn: AsyncConnection, *, member_id: MemberId) -> Member:
    """Return the member.

    Raises: NotFound, also for a member of another house.
    """
    found = await find(conn, member_id=member_id)
    if found is None:
        raise NotFound("member", str(member_id))
    return found


async def find(conn: AsyncConnection, *, member_id: MemberId) -> Member | None:
    """Return the member, or None if they are not there for this caller."""
    statement = sa.select(members).where(members.c.id == member_id)
    row = (await conn.execute(statement)).mappings().first()
    return None if row is None else rows.member(row)


async def list(
    conn: AsyncConnection, *, house_id: HouseId, before: MemberId | None = None, limit: int
) -> tuple[Member, ...]:
    """Return one page of the house's members, newest first, older than `before`."""
    statement = sa.select(members).where(members.c.house_id == house_id)
    if before is not None:
        statement = statement.where(members.c.id < before)
    found = await conn.execute(statement.order_by(members.c.id.desc()).limit(limit))
    return tuple(rows.member(row) for row in found.mappings())


async def update(
    conn: AsyncConnection,
    *,
    member_id: MemberId,
    name: str | UnsetType = UNSET,
    role: Role | UnsetType = UNSET,
) -> Member:
    """Change what is given; an owner's right.

    Raises: NotFound, also for a caller who is no owner; Conflict (`last_owner`) when the house
    would be left without one.
    """
    values = rows.given(name=name, role=role)
    if not values:
        return await get(conn, member_id=member_id)
    if role == "member":
        await _keep_an_owner(conn, member_id=member_id)
    statement = sa.update(members).where(members.c.id == member_id).values(values)
    row = (await conn.execute(statement.returning(*members.c))).mappings().first()
    if row is None:
        raise NotFound("member", str(member_id))
    return rows.member(row)


async def delete(conn: AsyncConnection, *, member_id: MemberId) -> None:
    """Remove a person and all tokens of theirs; an owner's right.

    Promise: their identity sees nothing from the next statement on.
    Raises: NotFound, also when repeated and for a caller who is no owner; Conflict
    (`last_owner`).
    """
    await _keep_an_owner(conn, member_id=member_id)
    done = await conn.execute(sa.delete(members).where(members.c.id == member_id))
    if done.rowcount == 0:
        raise NotFound("member", str(member_id))


async def _keep_an_owner(conn: AsyncConnection, *, member_id: MemberId) -> None:
    """Lock the house's owners, so that two of them cannot remove each other at once."""
    house = sa.select(members.c.house_id).where(members.c.id == member_id).scalar_subquery()
    statement = (
        sa.select(members.c.id)
        .where(members.c.house_id == house, members.c.role == "owner")
        .order_by(members.c.id)
        .with_for_update()
    )
    if (await conn.scalars(statement)).all() == [member_id]:
        raise Conflict(
            "last_owner",
            "This member is the house's only owner.",
            next_step="Make another member an owner first.",
        )
