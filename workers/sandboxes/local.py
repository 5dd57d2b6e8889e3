"""The local sandbox: a thread's commands run on the worker's machine, in the thread's folder.

How far they are kept apart from it is `isolation`'s word. Not guaranteed: that the folder is
the same on another machine; a workspace lives where its worker lives.
"""

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from dispatch import clock
from dispatch.config import Settings
from dispatch.errors import Invalid, SandboxDied, Unavailable
from workers.sandboxes import (
    CommandResult,
    Limits,
    OnBytes,
    OnOutput,
    Place,
    cgroups,
    isolation,
    processes,
    workspaces,
)
from workers.sandboxes.launches import Isolation
from workers.sandboxes.output import Output

SERVER: Final = "The local sandbox"
MAX_COMMAND_BYTES: Final = 128 * 1024 - 1
"""Linux takes no single argument of 128 KiB or more (MAX_ARG_STRLEN)."""
SIGNAL_BASE: Final = 128
"""A shell reports death by signal N as 128 + N."""


class LocalSandbox:
    """Runs shell commands in one workspace."""

    def __init__(self, workspace: Path, apart: Isolation, limits: Limits) -> None:
        self._workspace = workspace.absolute()
        self._apart = apart
        self._limits = limits

    async def run_command(
        self,
        command: str,
        *,
        wall_seconds: float,
        max_output_bytes: int,
        on_output: OnOutput,
        on_bytes: OnBytes | None = None,
    ) -> CommandResult:
        """Run `/bin/sh -c command` and return how it ended; see `workers.sandboxes.Sandbox`.

        Not guaranteed: the end of a bare command's child that left for a session of its own.
        """
        refuse_what_no_shell_takes(command)
        output = Output(max_output_bytes)
        started = clock.monotonic_seconds()
        launch = self._apart.launch(
            self._workspace, command, wall_seconds=wall_seconds, limits=self._limits
        )
        await self._assert_alive()
        async with _cgroup(launch.cgroup, self._limits):
            try:
                running = await processes.start(launch)
            except OSError as problem:
                raise Unavailable(SERVER, cause=str(problem)) from problem
            status = await processes.finish(
                running,
                wall_seconds=wall_seconds,
                output=output,
                on_output=on_output,
                on_bytes=on_bytes,
            )
        exit_code, signal_name = ending(status)
        if status is not None and status < 0 and self._apart.outlives_its_command:
            raise SandboxDied(self._workspace.name, cause=f"{signal_name} from outside")
        await self._assert_alive()
        return CommandResult(
            exit_code=exit_code,
            signal=signal_name,
            output=output.tail(),
            truncated=output.truncated,
            total_bytes=output.total_bytes,
            duration_seconds=clock.monotonic_seconds() - started,
            timed_out=status is None,
        )

    async def alive(self) -> bool:
        """Tell whether the workspace is there, a folder and no link to one."""
        return await asyncio.to_thread(_is_folder, self._workspace)

    async def _assert_alive(self) -> None:
        if not await self.alive():
            raise SandboxDied(self._workspace.name, cause="its workspace is gone")


class LocalProvider:
    """Gives each sandbox a folder below `workspace_root`, named by its id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = Path(settings.workspace_root).absolute()

    async def open(self, place: Place) -> LocalSandbox:
        """Make the workspace, or take up the one that is there.

        Raises: Unavailable, when this machine cannot make it or isolate it.
        """
        return await asyncio.to_thread(self._open, place)

    async def find(self, place: Place) -> LocalSandbox | None:
        """Return the sandbox if its workspace is on this machine. Raises: Unavailable."""
        if not await asyncio.to_thread(_is_folder, self._root / str(place.id)):
            return None
        return await self.open(place)

    async def list(self) -> list[uuid.UUID]:
        """Return the ids of all workspaces on this machine's disk. Raises: Unavailable."""
        return await asyncio.to_thread(workspaces.list_ids, self._root)

    async def release(self, sandbox_id: uuid.UUID) -> bool:
        """Remove the workspace; tell whether it is gone. Raises: Unavailable."""
        return await workspaces.remove(self._root, sandbox_id)

    def _open(self, place: Place) -> LocalSandbox:
        apart = isolation.choose(self._settings)
        workspace = self._root / str(place.id)
        try:
            workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
            if workspace.is_symlink():
                raise NotADirectoryError(f"{workspace} is a link")
            # mkdir's mode passes through the umask and does not touch a folder that is there.
            workspace.chmod(0o700)
            apart.own(workspace)
        except OSError as problem:
            raise Unavailable(SERVER, cause=str(problem)) from problem
        return LocalSandbox(workspace, apart, place.limits)


@contextlib.asynccontextmanager
async def _cgroup(cgroup: Path | None, limits: Limits) -> AsyncGenerator[None]:
    """Have a command's cgroup for the length of a block.

    Raises: Unavailable, when it cannot be made.
    """
    if cgroup is None:
        yield
        return
    try:
        try:
            await asyncio.to_thread(cgroups.make, cgroup, limits)
        except OSError as problem:
            raise Unavailable(SERVER, cause=str(problem)) from problem
        yield
    finally:
        await asyncio.shield(asyncio.to_thread(cgroups.remove, cgroup))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def refuse_what_no_shell_takes(command: str) -> None:
    """Return if `/bin/sh -c` can be given the command. Raises: Invalid."""
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


def ending(status: int | None) -> tuple[int | None, str | None]:
    """Return exit code and signal name, the same whether we or a shell saw the signal."""
    if status is None:
        return None, signal.SIGKILL.name
    exit_code = SIGNAL_BASE - status if status < 0 else status
    try:
        return exit_code, signal.Signals(exit_code - SIGNAL_BASE).name
    except ValueError:
        return exit_code, None
