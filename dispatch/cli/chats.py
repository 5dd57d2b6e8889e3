"""`arbe chat`: what ARC's chats there are, and the sweep of the closed ones."""

from typing import Annotated

import typer

from dispatch.cli import commands, rows
from dispatch.cli.doors import Door

app = commands.noun("Chats: conversations with agents over ARC.")


@commands.command(app, "list", examples="arbe chat list --json")
async def list_chats(door: Door) -> None:
    """List your active chats."""
    found = await rows.every(door.client.chats.list, "chats")
    rows.show_list(door, found, "chats", ("chatId", "targetAgent", "metadata", "updatedAt"))


@commands.command(app, "sweep", examples="arbe chat sweep --dry-run")
async def sweep(
    door: Door,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count only, change nothing.")
    ] = False,
) -> None:
    """Remove closed chats whose time is over, as the sweep does each minute.

    Needs an owner's token, or the operator's.
    """
    rows.show(door, await door.operator.chats.sweep(dry_run=dry_run))
