"""`arbe house`: tenants."""

from typing import Annotated

import typer

from dispatch.cli import commands, rows
from dispatch.cli.doors import Door

app = commands.noun("Houses: tenants, each with its members, agents and threads.")


@commands.command(app, "create", examples='arbe house create "Acme" --owner "Ann"')
async def create(
    door: Door,
    name: Annotated[str, typer.Argument(help="Its name.")],
    owner: Annotated[str, typer.Option("--owner", help="The first owner's name.")] = "owner",
) -> None:
    """Make a house and its first owner; prints the owner's token, once.

    Needs ARBE_OPERATOR_TOKEN, or the token of an owner.
    """
    made = await door.operator.houses.create(name, owner_name=owner)
    rows.show(door, made)
    door.output.note("Keep the token: it is not shown again.")


@commands.command(app, "list", examples="arbe house list")
async def list_houses(door: Door) -> None:
    """List the houses you are in."""
    found = await door.client.houses.list()
    rows.show_list(door, found, "houses", ("id", "name", "primaryThreadId", "createdAt"))


@commands.command(app, "show", examples="arbe house show")
async def show(
    door: Door, house: Annotated[str, typer.Argument(help="A house; else your own.")] = "me"
) -> None:
    """Show a house."""
    rows.show(door, await door.client.houses.get(house))


@commands.command(app, "rename", examples='arbe house rename "Acme Research"')
async def rename(
    door: Door, name: Annotated[str, typer.Argument(help="The new name.")]
) -> None:
    """Give your house another name."""
    rows.show(door, await door.client.houses.rename(name))
