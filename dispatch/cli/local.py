"""Commands that act on this machine instead of asking an API: `up`, `demo`, `db upgrade`.

They import what they need when they run: servers, SQLAlchemy and Alembic take half a second,
which every other command would pay for.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatch.cli import commands, rows
from dispatch.cli.doors import Door

if TYPE_CHECKING:
    from dispatch.embedded.up import Running

database = commands.noun("The database's schema.")

_FOLDER: Final = Path(".arbe")
Folder = Annotated[
    Path,
    typer.Option(
        "--directory", help="Where data, credentials and the log live.", file_okay=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands that stand directly under `arbe`."""
    commands.command(app, "up", examples="arbe up", asks_api=False)(_up)
    commands.command(app, "demo", examples="arbe demo", asks_api=False)(_demo)


@commands.command(database, "upgrade", examples="arbe db upgrade", asks_api=False)
async def upgrade(door: Door) -> None:
    """Bring the database of DATABASE_URL to the newest schema. Again is harmless."""
    from dispatch.operations import upgrade as operation  # noqa: PLC0415 - see the module

    with door.output.progress("Migrating …"):
        await asyncio.to_thread(operation.upgrade, door.settings)
    rows.done(door, {"upgraded": "the schema is the newest"})


async def _demo(door: Door) -> None:
    """Watch a turn stream, then a worker being killed and its thread repaired. One minute.

    Starts a system of its own in a temporary folder and stops it again.
    """
    from dispatch.cli import demo  # noqa: PLC0415 - see the module

    await demo.run(door)


async def _up(door: Door, directory: Folder = _FOLDER) -> None:
    """Start everything on this machine: Postgres, Redis, API, worker, beat.

    Postgres, Redis and the broker are private ones, unless DATABASE_URL, STREAM_URL or
    BROKER_URL name yours. Ctrl-C stops all; data stays in the folder.
    """
    from dispatch.embedded import up  # noqa: PLC0415 - see the module

    async def on_ready(running: "Running") -> None:
        if door.output.as_json:
            known = running.credentials
            door.output.json(
                {"url": known.url, "token": known.token, "directory": str(running.directory)}
            )
            return
        door.output.text(up.welcome(running))

    door.output.note("Starting; the first time takes some seconds …")
    await up.up(door.settings, directory=directory, on_ready=on_ready)
