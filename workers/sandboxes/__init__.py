"""Sandboxes run one shell command where an agent may do as it likes, and tell how it ended.

Here live the words all sandboxes share. Not guaranteed: that a command ran once; a worker that
died while it ran knows neither its ending nor its effects.
"""

from collections.abc import Awaitable, Callable

import msgspec

OnOutput = Callable[[str], Awaitable[None]]
"""Takes the next piece of live output; the command waits while it is awaited."""


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
