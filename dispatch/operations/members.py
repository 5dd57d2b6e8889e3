"""Members: the people of a house. Owners manage them."""

from dispatch.ids import MemberId
from dispatch.models import claims
from dispatch.models.claims import NewId
from dispatch.models.houses import Caller, Member, Role
from dispatch.models.pages import Page
from dispatch.operations import labels, paging, rights
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, idempotency
from dispatch.stores.postgres import members as stored


async def create(
    record: Record,
    who: Caller,
    *,
    name: str,
    role: Role = "member",
    new: NewId | None = None,
) -> Member:
    """Add a person to the house; they can do nothing before a token is minted for them.

    Raises: Forbidden, Invalid.
    """
    rights.require_owner(who, "add members")
    named = labels.name(name, record.settings)
    new = new or claims.fresh()
    member_id = MemberId(new.id)
    async with engine.as_member(record.members, who.member_id) as connection:
        await idempotency.hold(connection, new=new)
        made = await stored.find(connection, member_id=member_id) if new.may_exist else None
        return made or await stored.insert(
            connection, house_id=who.house_id, name=named, role=role, member_id=member_id
        )


async def list_members(
    record: Record, who: Caller, *, cursor: str | None, limit: int | None
) -> Page[Member]:
    """Return one page of the house's people, newest first."""
    size = paging.size(limit, record.settings)
    before = paging.place(cursor, MemberId)
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await stored.list(
            connection, house_id=who.house_id, before=before, limit=size + 1
        )
    return paging.page(found, size)


async def delete(record: Record, who: Caller, member_id: MemberId) -> None:
    """Remove a person and all tokens of theirs.

    Promise: this process refuses them at once, others within `authorization_cache_seconds`.
    Raises: Forbidden, NotFound, Conflict (`last_owner`).
    """
    rights.require_owner(who, "remove members")
    async with engine.as_member(record.members, who.member_id) as connection:
        await stored.delete(connection, member_id=member_id)
    record.forget()
