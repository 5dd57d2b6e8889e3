"""`arbe member` and `arbe token`: people, and how they prove who they are."""

from typing import Annotated

import typer

from dispatch.cli import commands, rows
from dispatch.cli.arguments import Yes
from dispatch.cli.doors import Door

members = commands.noun("Members: the people of your house.")
tokens = commands.noun("Tokens: how members and services prove who they are.")

_SECONDS_A_DAY = 86_400


@commands.command(members, "create", examples='arbe member create "Ben" --role owner')
async def create_member(
    door: Door,
    name: Annotated[str, typer.Argument(help="The person's name.")],
    role: Annotated[
        str, typer.Option("--role", help="owner or member.", metavar="ROLE")
    ] = "member",
) -> None:
    """Add a person to the house."""
    rows.show(door, await door.client.members.create(name, role=role))


@commands.command(members, "list", examples="arbe member list")
async def list_members(door: Door) -> None:
    """List the people of the house."""
    found = await rows.every(door.client.members.list, "members")
    rows.show_list(door, found, "members", ("id", "name", "role", "createdAt"))


@commands.command(members, "delete", examples="arbe member delete 0198f2c4 --yes")
async def delete_member(
    door: Door,
    member: Annotated[str, typer.Argument(help="The member's id.", metavar="MEMBER")],
    yes: Yes = False,  # noqa: ARG001 - asked while the line was parsed
) -> None:
    """Remove a person and all their tokens."""
    await door.client.members.delete(member)
    rows.done(door, {"deleted": member})


@commands.command(
    tokens,
    "create",
    examples="""
    arbe token create ci --days 90
    arbe token create ben-laptop --member 0198f2c4
    """,
)
async def create_token(
    door: Door,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    member: Annotated[
        str | None, typer.Option("--member", help="Whose; else yours.", metavar="MEMBER")
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", help="It ends after this many days.", min=0)
    ] = None,
) -> None:
    """Make a token; it is printed once."""
    made = await door.client.tokens.create(
        name,
        member_id=member,
        expires_in_seconds=None if days is None else days * _SECONDS_A_DAY,
    )
    rows.show(door, made)
    door.output.note("Keep it: it is not shown again. Put it in ARBE_TOKEN or a token file.")


@commands.command(tokens, "list", examples="arbe token list")
async def list_tokens(door: Door) -> None:
    """List tokens, without their texts."""
    found = await rows.every(door.client.tokens.list, "tokens")
    rows.show_list(
        door,
        found,
        "tokens",
        ("id", "name", "memberId", "createdAt", "expiresAt", "lastUsedAt"),
    )


@commands.command(tokens, "revoke", examples="arbe token revoke 0198f2c4")
async def revoke_token(
    door: Door, token: Annotated[str, typer.Argument(help="The token's id.", metavar="ID")]
) -> None:
    """End a token."""
    await door.client.tokens.revoke(token)
    rows.done(door, {"revoked": token})
