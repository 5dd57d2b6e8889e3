"""API tokens: mint, list, revoke. The text of a token is seen once, by whoever minted it."""

import secrets
from datetime import datetime, timedelta
from typing import Final

import msgspec

from dispatch import clock
from dispatch.errors import Invalid
from dispatch.ids import MemberId, TokenId
from dispatch.models import claims
from dispatch.models.claims import NewId
from dispatch.models.houses import Caller, Role, Token
from dispatch.models.pages import Page
from dispatch.operations import authorize, labels, paging, rights
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, idempotency, members
from dispatch.stores.postgres import tokens as stored

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES: Final = 32
_SECRET_CHARACTERS: Final = 43
"""32 bytes in base 62."""
_MAX_LIFE_SECONDS: Final = 10 * 366 * 24 * 3600


class Minted(msgspec.Struct, frozen=True, kw_only=True):
    """A token and, this once, its text."""

    token: Token
    secret: str


def new_secret(role: Role) -> str:
    """Make the text of a token: `arbe_<role>_` and 256 random bits in base 62."""
    number = int.from_bytes(secrets.token_bytes(_SECRET_BYTES))
    digits: list[str] = []
    for _ in range(_SECRET_CHARACTERS):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return f"arbe_{role}_{''.join(reversed(digits))}"


async def mint(
    record: Record,
    who: Caller,
    *,
    name: str,
    member_id: MemberId | None = None,
    expires_in_seconds: float | None = None,
    new: NewId | None = None,
) -> Minted:
    """Mint a token for oneself, or as an owner for any member of the house.

    Promise: one that an earlier attempt at the same call minted is minted anew, as nobody heard
    its text.
    Raises: Forbidden, NotFound (no such member), Invalid.
    """
    if member_id is not None and member_id != who.member_id:
        rights.require_owner(who, "mint tokens for other members")
    named = labels.name(name, record.settings)
    expires_at = _expiry(expires_in_seconds)
    new = new or claims.fresh()
    token_id = TokenId(new.id)
    async with engine.as_member(record.members, who.member_id) as connection:
        await idempotency.hold(connection, new=new)
        if new.may_exist:
            await stored.delete_unheard(connection, token_id=token_id)
        member = await members.get(connection, member_id=member_id or who.member_id)
        secret = new_secret(member.role)
        token = await stored.insert(
            connection,
            house_id=who.house_id,
            member_id=member.id,
            name=named,
            digest=authorize.digest(secret),
            expires_at=expires_at,
            token_id=token_id,
        )
    return Minted(token=token, secret=secret)


async def list_tokens(
    record: Record, who: Caller, *, cursor: str | None, limit: int | None
) -> Page[Token]:
    """Return one page of the caller's tokens, or as an owner of the house's, newest first."""
    size = paging.size(limit, record.settings)
    before = paging.place(cursor, TokenId)
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await stored.list(
            connection, house_id=who.house_id, before=before, limit=size + 1
        )
    return paging.page(found, size)


async def revoke(record: Record, who: Caller, token_id: TokenId) -> None:
    """End a token.

    Promise: this process refuses it at once, others within `authorization_cache_seconds`.
    Raises: NotFound, also when repeated and for a token the caller may not see.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        await stored.delete(connection, token_id=token_id)
    record.forget()


def _expiry(seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    if not 0 < seconds <= _MAX_LIFE_SECONDS:
        raise Invalid(
            "A token may live for up to ten years.",
            next_step="Send `expiresInSeconds` above 0, or leave it out.",
        )
    return clock.now() + timedelta(seconds=seconds)
