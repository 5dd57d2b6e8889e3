"""Arguments and options that several commands share, and the two that ask the person."""

import re
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

ExpiresIn = Annotated[
    str | None,
    typer.Option(
        "--expires-in",
        help="It is removed after this time: 90s, 15m, 24h, 30d, 2w.",
        metavar="TIME",
    ),
]

_STDIN: Final = "-"
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


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


def object_of(text: str | None) -> dict[str, Any] | None:
    """Return the object of a text that `read_json` let pass."""
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


def seconds(text: str | None) -> float | None:
    """Read a length of time such as `24h`."""
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"'{text}' is no length of time: say 90s, 15m, 24h, 30d or 2w")
    return float(found[1]) * _UNIT_SECONDS[found[2]]


def ask_first(yes: bool) -> bool:
    """Ask before something that cannot be undone, if there is somebody to ask."""
    if not yes and sys.stdin.isatty():
        typer.confirm("This cannot be undone. Go on?", abort=True, err=True)
    return yes


def ask_unless_dry(context: typer.Context, yes: bool) -> bool:
    """Ask as `ask_first` does, but for a dry run. What is not given is read after what is."""
    return bool(context.params.get("dry_run")) or ask_first(yes)


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", callback=ask_first)]
YesUnlessDry = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask.", callback=ask_unless_dry)
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="Its settings, replaced whole: a JSON object, or @FILE with one.",
        metavar="JSON",
        callback=read_json,
    ),
]
Metadata = Annotated[
    str | None,
    typer.Option(
        "--metadata",
        help="Notes of yours: a JSON object, or @FILE with one.",
        metavar="JSON",
        callback=read_json,
    ),
]
