"""The local sandbox: a thread's commands run on the worker's machine, in the thread's folder.

How far they are kept apart from it is `isolation`'s word. Not guaranteed: that the folder is
the same on another machine; a workspace lives where its worker lives.
"""

import asyncio
import signal
from pathlib import Path
from typing import Final

from dispatch import clock
from dispatch.errors import Invalid, Unavailable
from workers.sandboxes import CommandResult, OnOutput, isolation, processes
from workers.sandboxes.launches import Isolation
from workers.sandboxes.output import Output

MAX_COMMAND_BYTES: Final = 128 * 1024 - 1
"""Linux takes no single argument of 128 KiB or more (MAX_ARG_STRLEN)."""
SIGNAL_BASE: Final = 128
"""A shell reports death by signal N as 128 + N."""


class LocalSandbox:
    """Runs shell commands in one workspace, which it makes when first needed."""

    def __init__(self, workspace: Path, apart: Isolation | None = None) -> None:
        """Args: apart: None chooses the strongest that works here, once per process."""
        self._workspace = workspace.absolute()
        self._apart = apart

    async def run_command(
        self,
        command: str,
        *,
        wall_seconds: float,
        max_output_bytes: int,
        on_output: OnOutput,
    ) -> CommandResult:
        """Run `/bin/sh -c command` and return how it ended.

        Promise: nothing of the command's process group lives on after return, wall clock or
        cancellation. `on_output` gets the first `max_output_bytes` live, the result keeps the
        last; what lies between is drained and counted. Called twice, it runs twice.

        Raises: Invalid, when no shell could take the command; Unavailable, when this machine
        cannot start one. In both cases nothing ran.
        """
        _refuse_what_no_shell_takes(command)
        output = Output(max_output_bytes)
        started = clock.monotonic_seconds()
        try:
            apart = await asyncio.to_thread(self._prepare)
            launch = apart.launch(self._workspace, command, wall_seconds=wall_seconds)
            running = await processes.start(launch)
        except OSError as problem:
            raise Unavailable("The local sandbox", cause=str(problem)) from problem
        status = await processes.finish(
            running, wall_seconds=wall_seconds, output=output, on_output=on_output
        )
        exit_code, signal_name = _ending(status)
        return CommandResult(
            exit_code=exit_code,
            signal=signal_name,
            output=output.tail(),
            truncated=output.truncated,
            total_bytes=output.total_bytes,
            duration_seconds=clock.monotonic_seconds() - started,
            timed_out=status is None,
        )

    def _prepare(self) -> Isolation:
        self._workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkdir's mode passes through the umask and does not touch a folder that is there.
        self._workspace.chmod(0o700)
        return self._apart or isolation.choose()


def _refuse_what_no_shell_takes(command: str) -> None:
    if "\0" in command:
        raise Invalid("A command cannot contain NUL.", next_step="Remove it.")
    try:
        size = len(command.encode())
    except UnicodeEncodeError as problem:
        raise Invalid(
            "The command is not valid Unicode: it holds half a surrogate pair.",
            next_step="Send whole characters.",
        ) from problem
    if size > MAX_COMMAND_BYTES:
        raise Invalid(
            f"A command of {size} bytes is longer than {MAX_COMMAND_BYTES}.",
            next_step="Write it into a file in several commands, then run the file.",
        )


def _ending(status: int | None) -> tuple[int | None, str | None]:
    """Return exit code and signal name, the same whether we or a shell saw the signal."""
    if status is None:
        return None, signal.SIGKILL.name
    exit_code = SIGNAL_BASE - status if status < 0 else status
    try:
        return exit_code, signal.Signals(exit_code - SIGNAL_BASE).name
    except ValueError:
        return exit_code, None
