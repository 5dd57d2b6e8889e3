"""`arbe house`: tenants."""

from typing import Annotated

import typer

from dispatch.cli import cancellations, commands, rows
from dispatch.cli.arguments import Message, WhenBusy, Yes
from dispatch.cli.doors import Door
from dispatch.client.connection import Json

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


@commands.command(
    app,
    "update",
    examples="""
    arbe house update --when-busy steer
    arbe house update --name "Acme Research"
    """,
)
async def update(
    door: Door,
    name: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    when_busy: WhenBusy = None,
) -> None:
    """Change your house: its name, or what becomes of entries whose agent is busy.

    --when-busy counts where neither entry nor thread says; empty: `enqueue` again.
    """
    changes: Json = {}
    if name is not None:
        changes["name"] = name
    if when_busy is not None:
        changes["whenBusy"] = when_busy or None
    if not changes:
        raise typer.BadParameter("nothing to change: give --name or --when-busy")
    rows.show(door, await door.client.houses.update(changes))


@commands.command(
    app,
    "cancel",
    examples="""
    arbe house cancel --yes
    arbe house cancel --tag nightly --message "fire drill"
    """,
)
async def cancel(
    door: Door,
    tag: Annotated[
        str | None, typer.Option("--tag", help="Only threads with this label, and below them.")
    ] = None,
    message: Message = None,
    yes: Yes = False,  # noqa: ARG001
) -> None:
    """Cancel all that waits or runs now in your house. Needs an owner's token."""
    with door.output.progress("Cancelling …"):
        asked = await door.client.houses.cancel(message=message, tag=tag)
    cancellations.show(door, asked)
