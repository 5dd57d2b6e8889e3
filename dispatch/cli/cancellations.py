"""`arbe cancellation`, and how a cancel of many turns is shown."""

from typing import Annotated

import typer

from dispatch.cli import commands, rows
from dispatch.cli.doors import Door
from dispatch.client.connection import Json

app = commands.noun("Cancels of many turns: of a thread, of a house, of what works for a turn.")


@commands.command(app, "show", examples="arbe cancellation show 0199d2a4-…")
async def show_one(
    door: Door,
    cancellation: Annotated[str, typer.Argument(help="Its id, as the cancel printed it.")],
) -> None:
    """Show how far a cancel has come."""
    show(door, await door.client.cancellations.get(cancellation))


def show(door: Door, asked: Json) -> None:
    """Show a cancel, and where to look if it is not done."""
    rows.show(door, asked)
    if not asked["done"]:
        note_rest(door, asked["id"])


def note_rest(door: Door, cancellation_id: str) -> None:
    """Say where to see the rest being worked off."""
    door.output.note(f"It goes on by itself: arbe cancellation show {cancellation_id}")
