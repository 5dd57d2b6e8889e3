"""Turns an async function into a command: its own parameters, then the shared options.

Every command has `--json`; those that ask an API have `--url` and `--token-file` too. A command
that fails says so in one place, here, and never with a traceback of an expected error.
"""

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec

import typer
from pydantic import ValidationError

from dispatch.cli import exits
from dispatch.cli.doors import Door
from dispatch.cli.output import Output
from dispatch.config import Settings
from dispatch.errors import ArbeError, Invalid

P = ParamSpec("P")

_JSON: Final = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")
]
_URL: Final = Annotated[
    str | None, typer.Option("--url", help="The API's address; else ARBE_URL.", metavar="URL")
]
_TOKEN_FILE: Final = Annotated[
    Path | None,
    typer.Option(
        "--token-file", help="A file with the token; else ARBE_TOKEN.", metavar="FILE"
    ),
]


def noun(help_text: str) -> typer.Typer:
    """Make the group of one noun's verbs."""
    return typer.Typer(no_args_is_help=True, help=help_text, pretty_exceptions_enable=False)


def command(
    app: typer.Typer, name: str, *, examples: str = "", asks_api: bool = True
) -> Callable[[Callable[Concatenate[Door, P], Awaitable[None]]], Callable[..., None]]:
    """Register an async function under a name.

    Args: examples: command lines for the help, one per line.
    """

    def register(
        function: Callable[Concatenate[Door, P], Awaitable[None]],
    ) -> Callable[..., None]:
        def run(**values: Any) -> None:
            output = Output(as_json=values.pop("as_json"))
            url, token_file = values.pop("url", None), values.pop("token_file", None)
            _run(
                output,
                url,
                token_file,
                lambda door: function(door, **values),  # type: ignore[call-arg]
            )

        run.__name__ = getattr(function, "__name__", name)
        run.__doc__ = function.__doc__
        run.__signature__ = _signature(function, asks_api=asks_api)  # type: ignore[attr-defined]
        app.command(name, epilog=_epilog(examples))(run)
        return run

    return register


def _run(
    output: Output,
    url: str | None,
    token_file: Path | None,
    act: Callable[[Door], Awaitable[None]],
) -> None:
    async def within() -> None:
        door = Door(_settings(), output, url=url, token_file=token_file)
        try:
            await act(door)
        finally:
            await door.close()

    try:
        asyncio.run(within())
    except ArbeError as error:
        output.error(error)
        raise exits.Ended(exits.ERROR) from error
    except KeyboardInterrupt as interrupt:
        raise exits.Ended(exits.INTERRUPTED) from interrupt
    except BrokenPipeError as left:
        # Whoever read us has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise exits.Ended(exits.BROKEN_PIPE) from left


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        place = "_".join(str(part) for part in first["loc"]).upper()
        where = f"The setting ARBE_{place}" if place else "A setting of the environment"
        raise Invalid(
            f"{where} cannot be used: {first['msg']}.",
            next_step="Correct or unset that variable.",
        ) from error


def _signature(function: Callable[..., Any], *, asks_api: bool) -> inspect.Signature:
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [inspect.Parameter("as_json", keyword, default=False, annotation=_JSON)]
    if asks_api:
        shared += [
            inspect.Parameter("url", keyword, default=None, annotation=_URL),
            inspect.Parameter("token_file", keyword, default=None, annotation=_TOKEN_FILE),
        ]
    return inspect.Signature([*(each.replace(kind=keyword) for each in own), *shared])


def _epilog(examples: str) -> str | None:
    lines = [line.strip() for line in examples.strip().splitlines()]
    return "\n\n".join(["Examples:", *lines]) if lines else None
