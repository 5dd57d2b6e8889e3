"""Houses, members and tokens on the wire."""

from typing import Annotated

from pydantic import Field

from dispatch import clock
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, Milliseconds, examples
from dispatch.models.houses import House, Member, Role, Token, WhenBusy


class FoundHouse(Body):
    """A house to found."""

    model_config = shapes.example(name="Casa", ownerName="Ada")

    name: str
    owner_name: str


class ChangeHouse(Body):
    """What shall be different; `whenBusy: null` means `enqueue` again."""

    model_config = shapes.example(name="Villa", whenBusy="steer")

    name: str = ""
    when_busy: WhenBusy | None = None


class AddMember(Body):
    """A person to add."""

    model_config = shapes.example(name="Bo", role="member")

    name: str
    role: Role = "member"


class MintToken(Body):
    """A token to mint; without `memberId` for oneself."""

    model_config = shapes.example(name="laptop", expiresInSeconds=2592000)

    name: str
    member_id: str | None = None
    expires_in_seconds: Annotated[float | None, Field(description="Unset: never.")] = None


class HouseAnswer(Answer):
    """A house. `signal.house.*` lands on its primary thread."""

    model_config = shapes.example(**examples.HOUSE)

    id: str
    name: str
    primary_thread_id: str
    created_at: Milliseconds
    when_busy: Annotated[
        WhenBusy | None,
        Field(description="For entries and threads that do not say; unset: `enqueue`."),
    ] = None


class MemberAnswer(Answer):
    """A person in a house."""

    model_config = shapes.example(**examples.MEMBER)

    id: str
    house_id: str
    name: str
    role: Role
    created_at: Milliseconds


class TokenAnswer(Answer):
    """A token without its text."""

    model_config = shapes.example(**examples.TOKEN)

    id: str
    member_id: str
    name: str
    created_at: Milliseconds
    expires_at: Milliseconds | None = None
    last_used_at: Milliseconds | None = None


class FoundedAnswer(Answer):
    """A new house, its owner, and the owner's token: its text is never shown again."""

    model_config = shapes.example(
        house=examples.HOUSE, member=examples.MEMBER, token=examples.SECRET
    )

    house: HouseAnswer
    member: MemberAnswer
    token: str


class MintedAnswer(Answer):
    """A new token: its text (`token`) is never shown again."""

    model_config = shapes.example(**examples.TOKEN, token=examples.SECRET)

    id: str
    member_id: str
    name: str
    created_at: Milliseconds
    expires_at: Milliseconds | None = None
    token: str


class HousesAnswer(Answer):
    """The houses of the caller: one."""

    model_config = shapes.example(houses=[examples.HOUSE], nextCursor=None)

    houses: list[HouseAnswer]
    next_cursor: str | None = None


class MembersAnswer(Answer):
    """A page of people."""

    model_config = shapes.example(members=[examples.MEMBER], nextCursor=None)

    members: list[MemberAnswer]
    next_cursor: str | None = None


class TokensAnswer(Answer):
    """A page of tokens."""

    model_config = shapes.example(tokens=[examples.TOKEN], nextCursor=None)

    tokens: list[TokenAnswer]
    next_cursor: str | None = None


def house(row: House) -> HouseAnswer:
    """Show a house."""
    return HouseAnswer(
        id=str(row.id),
        name=row.name,
        primary_thread_id=str(row.primary_thread_id),
        created_at=clock.milliseconds(row.created_at),
        when_busy=row.when_busy,
    )


def member(row: Member) -> MemberAnswer:
    """Show a member."""
    return MemberAnswer(
        id=str(row.id),
        house_id=str(row.house_id),
        name=row.name,
        role=row.role,
        created_at=clock.milliseconds(row.created_at),
    )


def token(row: Token) -> TokenAnswer:
    """Show a token, which carries no secret."""
    return TokenAnswer(
        id=str(row.id),
        member_id=str(row.member_id),
        name=row.name,
        created_at=clock.milliseconds(row.created_at),
        expires_at=shapes.milliseconds(row.expires_at),
        last_used_at=shapes.milliseconds(row.last_used_at),
    )


def minted(row: Token, secret: str) -> MintedAnswer:
    """Show a token with its text, this once."""
    return MintedAnswer(
        id=str(row.id),
        member_id=str(row.member_id),
        name=row.name,
        created_at=clock.milliseconds(row.created_at),
        expires_at=shapes.milliseconds(row.expires_at),
        token=secret,
    )
