"""Houses: found one, read it, change it."""

import msgspec
from msgspec import UNSET, UnsetType

from dispatch.errors import NotFound
from dispatch.ids import HouseId
from dispatch.models import claims
from dispatch.models.claims import NewId
from dispatch.models.houses import Caller, House, Member, Token, WhenBusy
from dispatch.operations import authorize, labels, narrate, rights, tokens
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import HouseRenamed
from dispatch.stores.postgres import engine, idempotency
from dispatch.stores.postgres import houses as stored


class Founded(msgspec.Struct, frozen=True, kw_only=True):
    """A house with its owner and, this once, the text of the owner's token."""

    house: House
    member: Member
    token: Token
    secret: str


class HouseChange(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays as it is."""

    name: str | UnsetType = UNSET
    when_busy: WhenBusy | UnsetType | None = UNSET
    """For threads that do not say themselves; None: `enqueue`."""


async def create(
    record: Record, *, name: str, owner_name: str, new: NewId | None = None
) -> Founded:
    """Found a house with its primary thread, its owner and the owner's first token.

    Promise: all or nothing; each call founds another house, but attempts at one call found one.
    Who may call is the door's matter.
    """
    named = labels.name(name, record.settings)
    owner = labels.name(owner_name, record.settings, what="owner's name")
    await narrate.ready(record)
    secret = tokens.new_secret("owner")
    new = new or claims.fresh()
    house_id, digest = HouseId(new.id), authorize.digest(secret)
    # Founding needs no identity; holding a claim needs that of who claimed.
    founder = new.claim.scope.member_id if new.claim else claims.OPERATOR
    async with engine.as_member(record.members, founder) as connection:
        await idempotency.hold(connection, new=new)
        made = None
        if new.may_exist:
            made = await stored.create_again(connection, house_id=house_id, digest=digest)
        made = made or await stored.create(
            connection,
            name=named,
            owner_name=owner,
            token_name="first",  # noqa: S106 - the token's label
            digest=digest,
            house_id=house_id,
        )
    by = Author("member", str(made.owner.id), made.owner.name)
    await narrate.birth(record, made.house.primary_thread_id, by=by, name="home")
    return Founded(house=made.house, member=made.owner, token=made.token, secret=secret)


async def get(record: Record, who: Caller, ref: str = "me") -> House:
    """Return the caller's house, by `me`, its id or the beginning of it.

    Raises: NotFound, for any other house.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        return await stored.get(connection, house_id=_own(who, ref))


async def update(record: Record, who: Caller, change: HouseChange, ref: str = "me") -> House:
    """Change the house; `signal.house.renamed` tells of another name on its primary thread.

    Promise: another busy policy counts for entries this process accepts from now on, and for
    others within `authorization_cache_seconds`.
    Raises: Forbidden, NotFound, Invalid.
    """
    house_id = _own(who, ref)
    rights.require_owner(who, "change the house")
    name = change.name
    if isinstance(name, str):
        name = labels.name(name, record.settings)
    await narrate.ready(record)
    async with engine.as_member(record.members, who.member_id) as connection:
        before = await stored.get(connection, house_id=house_id)
        house = await stored.update(
            connection, house_id=house_id, name=name, when_busy=change.when_busy
        )
    if before.when_busy != house.when_busy:
        record.forget()
    if before.name != house.name:
        await narrate.tell(record, house.primary_thread_id, HouseRenamed(name=house.name))
    return house


def _own(who: Caller, ref: str) -> HouseId:
    """Return the one house a caller has, if the reference names it."""
    if ref == "me" or (len(ref) >= 4 and _fits(who, ref)):  # noqa: PLR2004 - as all prefixes
        return who.house_id
    raise NotFound("house", ref[:80])


def _fits(who: Caller, ref: str) -> bool:
    return who.house_id.hex.startswith(ref.lower().replace("-", ""))
