"""`arbe thread stats` and `arbe thread cleanup`."""

import functools
from typing import Annotated

import typer

from dispatch.cli import arguments, commands, rows
from dispatch.cli.arguments import ThreadRef, YesUnlessDry
from dispatch.cli.doors import Door
from dispatch.client.connection import Json


def register(app: typer.Typer) -> None:
    """Add the commands to the group of threads."""
    commands.command(app, "stats", examples="arbe thread stats 0198f2c4 --json | jq .lastRun")(
        stats
    )
    commands.command(
        app,
        "cleanup",
        examples="""
        arbe thread cleanup --older-than 24h --dry-run
        arbe thread cleanup --older-than 30d --tag nightly --yes
        arbe thread cleanup --expired --yes --json
        """,
    )(cleanup)


async def stats(door: Door, thread: ThreadRef) -> None:
    """Count a thread's messages and runs, and say how it and its last run stand."""
    rows.show(door, await door.client.threads.stats(thread))


async def cleanup(  # noqa: PLR0913 - options, one each
    door: Door,
    *,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            help="Nothing was said in it for this long: 90s, 15m, 24h, 30d, 2w.",
            metavar="TIME",
        ),
    ] = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="Only those whose time is over.")
    ] = False,
    tag: Annotated[str | None, typer.Option("--tag", help="Only with this label.")] = None,
    key_prefix: Annotated[
        str | None, typer.Option("--key-prefix", help="Only with a key that begins so.")
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="Only with this status.")
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Those with open work too: it is cut off.")
    ] = False,
    pinned: Annotated[bool, typer.Option("--pinned", help="Pinned ones too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which, change nothing.")
    ] = False,
    yes: YesUnlessDry = False,  # noqa: ARG001
) -> None:
    """Delete old threads, each with all below it and their streams. Repeat it: it goes on.

    Never the house's primary thread; never one that runs or is pinned unless you say so.
    """
    if older_than is None and not expired:
        raise typer.BadParameter("say which: --older-than TIME or --expired")
    with door.output.progress("Looking at old threads …"):
        total = await door.client.threads.cleanup(
            arguments.seconds(older_than),
            expired=expired,
            tag=tag,
            key_prefix=key_prefix,
            status=status,
            running=running,
            pinned=pinned,
            dry_run=dry_run,
            on_batch=functools.partial(_tell, door),
        )
    rows.show(door, total)


def _tell(door: Door, total: Json) -> None:
    door.output.note(f"so far: {total['deleted']} deleted, {total['removable']} to delete")
