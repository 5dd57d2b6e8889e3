"""`arbe`: the front door. Assembles the nouns; turns every ending into an exit code."""

import sys
from importlib import metadata
from typing import Annotated, Final

import typer

from dispatch.cli import (
    agents,
    cancellations,
    chats,
    commands,
    environments,
    exits,
    fleet,
    houses,
    local,
    members,
    permissions,
    threads,
)

app: Final = commands.noun(
    "Post entries to threads, and read agents' turns as they happen.\n\n"
    "Refs are ids, beginnings of ids, or an agent's @handle. Every command has --json. "
    "Exit codes: 0 ok, 1 error, 2 the turn failed, 3 stalled or not over in time, "
    "4 the turn was cancelled, 64 wrong usage, 130 Ctrl-C."
)
app.add_typer(threads.app, name="thread")
app.add_typer(chats.app, name="chat")
app.add_typer(permissions.app, name="permission")
app.add_typer(agents.app, name="agent")
app.add_typer(houses.app, name="house")
app.add_typer(members.members, name="member")
app.add_typer(members.tokens, name="token")
app.add_typer(environments.app, name="environment")
app.add_typer(cancellations.app, name="cancellation")
app.add_typer(local.database, name="db")
fleet.register(app)
local.register(app)

_CLICK_USAGE: Final = 2
"""What the parser ends with on a wrong command line; commands of ours end with `Ended`."""


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = metadata.version("arbe-dispatch")
    except metadata.PackageNotFoundError:
        version = "from a source tree that is not installed"
    sys.stdout.write(f"arbe {version}\n")
    raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Post entries to threads, and read agents' turns as they happen."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        app(arguments, prog_name="arbe")
    except exits.Ended as ended:
        return ended.code
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else exits.ERROR
        return exits.USAGE if code == _CLICK_USAGE else code
    return exits.OK


if __name__ == "__main__":
    main()
