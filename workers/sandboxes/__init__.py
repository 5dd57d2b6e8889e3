"""Sandboxes run one shell command where an agent may do as it likes, and tell how it ended.

Here live the words all providers share; `local` and `containers` are the two providers, and
`threads` finds the sandbox of a thread. Not guaranteed: that a command ran once; a worker that
died while it ran knows neither its ending nor its effects.
"""

import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from dispatch.config import Settings
from dispatch.models.recipes import Recipe

OnOutput = Callable[[str], Awaitable[None]]
"""Takes the next piece of live output; the command waits while it is awaited."""
OnBytes = Callable[[bytes], Awaitable[None]]
"""Takes every byte of the output in order; the command waits while it is awaited."""


class KeptOutput(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the whole output can be read: `GET /v1/threads/{id}/outputs/{ref}`."""

    ref: str
    bytes: int
    """How much is kept, from the beginning."""
    truncated: bool
    """The end of the output is not kept, being beyond the limit or a Postgres that was away."""


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended.

    `exit_code` follows the shell's convention, which cannot tell `exit 137` from a death by
    SIGKILL: 128 + N also names the signal N in `signal`. None: it was ended at the wall clock.
    """

    exit_code: int | None
    signal: str | None
    output: str
    """Standard output and error as they came, the tail of at most `max_output_bytes`."""
    truncated: bool
    total_bytes: int
    """What the command wrote, before truncation and decoding."""
    duration_seconds: float
    timed_out: bool
    kept: KeptOutput | None = None
    """Set when `output` is not the whole and the whole is kept."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one sandbox may use. Which of them are hard, each provider says."""

    memory_bytes: int
    processes: int
    file_bytes: int
    temporary_bytes: int
    cpus: float
    network: bool = False


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One sandbox as a provider finds it again: by its id alone."""

    id: uuid.UUID
    """The sandbox's id; the thread's own for a thread without environment."""
    limits: Limits
    image: str = ""


class Sandbox(Protocol):
    """A place where commands run, one after the other or side by side."""

    async def run_command(
        self,
        command: str,
        *,
        wall_seconds: float,
        max_output_bytes: int,
        on_output: OnOutput,
        on_bytes: OnBytes | None = None,
    ) -> CommandResult:
        """Run `/bin/sh -c command` in the workspace and return how it ended.

        Promise: nothing that the command started lives on after return, wall clock or
        cancellation. `on_output` gets the first `max_output_bytes` live, the result keeps the
        last, `on_bytes` gets all. What either raises ends the command and is raised here.
        Called twice, it runs twice.
        Raises: Invalid, when no shell could take the command; Unavailable, when the provider
        cannot start one: in both cases nothing ran. SandboxDied, when the sandbox is gone.
        """
        ...

    async def alive(self) -> bool:
        """Tell whether it is still there, with its files. Raises: Unavailable."""
        ...


class Provider(Protocol):
    """Makes sandboxes, finds and removes them. One per process."""

    async def open(self, place: Place) -> Sandbox:
        """Make the sandbox, or take up what an earlier attempt made of it.

        Raises: Unavailable; Invalid, when the place cannot be made (no such image).
        """
        ...

    async def find(self, place: Place) -> Sandbox | None:
        """Return a sandbox that was opened before, None if it is dead or gone.

        Raises: Unavailable.
        """
        ...

    async def list(self) -> list[uuid.UUID]:
        """Return the ids of all sandboxes that are here. Raises: Unavailable."""
        ...

    async def release(self, sandbox_id: uuid.UUID) -> bool:
        """Remove a sandbox and its files; tell whether it is gone now. Again is harmless.

        Raises: Unavailable.
        """
        ...


def limits(settings: Settings, recipe: Recipe) -> Limits:
    """Return what the environment says, else what the worker's settings say."""
    return Limits(
        memory_bytes=recipe.memory_bytes or settings.sandbox_memory_bytes,
        processes=recipe.processes or settings.sandbox_processes,
        file_bytes=recipe.file_bytes or settings.sandbox_file_bytes,
        temporary_bytes=recipe.temporary_bytes or settings.sandbox_temporary_bytes,
        cpus=recipe.cpus or settings.sandbox_cpus,
        network=recipe.network,
    )
