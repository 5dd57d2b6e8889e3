"""Arguments and options that several commands share, and the two that ask the person."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

ThreadRef = Annotated[
    str,
    typer.Argument(
        help="A thread: its id, or the beginning of it.", metavar="THREAD", show_default=False
    ),
]
AgentRef = Annotated[
    str,
    typer.Argument(help="An agent: @handle, or its id.", metavar="AGENT", show_default=False),
]
Mode = Annotated[
    str,
    typer.Argument(help="always, mention or never.", metavar="MODE", show_default=False),
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="A label; may be given several times.")
]
WhenBusy = Annotated[
    str | None,
    typer.Option(
        "--when-busy",
        help="While the agent is busy: enqueue, reject, interrupt, rollback, steer or write.",
        metavar="POLICY",
    ),
]
IfStatus = Annotated[
    list[str] | None,
    typer.Option(
        "--if-status",
        help="Only while the thread has this status; may be given several times.",
        metavar="STATUS",
    ),
]
Message = Annotated[
    str | None, typer.Option("--message", "-m", help="Why, for those who read it.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="This many at most.")]

_STDIN: Final = "-"


def read_stdin(value: str | None) -> str | None:
    """Replace `-` by what stands on standard input, without its last line end.

    Runs while the command line is parsed, where Ctrl-C ends a blocking read at once.
    """
    if value != _STDIN:
        return value
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise typer.BadParameter("standard input is not UTF-8 text") from error


def read_json(value: str | None) -> str | None:
    """Replace `@file` by what stands in that file; refuse what is no JSON object."""
    if value is None:
        return None
    try:
        text = Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {value[1:]}: {error}") from error
    try:
        msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"this is no JSON object: {error}") from error
    return text


def ask_first(yes: bool) -> bool:
    """Ask before something that cannot be undone, if there is somebody to ask."""
    if not yes and sys.stdin.isatty():
        typer.confirm("This cannot be undone. Go on?", abort=True, err=True)
    return yes


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", callback=ask_first)]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="Its settings, replaced whole: a JSON object, or @FILE with one.",
        metavar="JSON",
        callback=read_json,
    ),
]
