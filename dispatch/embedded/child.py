"""What the supervisor runs: one process, how to know that it works, how to end it."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field


async def _at_once() -> None:
    """Be ready: for a child that nobody has to wait for."""


@dataclass(frozen=True)
class Child:
    """One process to keep alive; a value, so that it can be started again."""

    name: str
    command: Sequence[str]
    """Everyone on the machine can read it: secrets go into `environment`."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Beside the supervisor's own environment."""
    ready: Callable[[], Awaitable[None]] = _at_once
    """Returns when the child serves; raises Unavailable when it takes too long."""
    stop_seconds: float = 10.0
    """From the stop signal to SIGKILL."""
    stop_signal: signal.Signals = signal.SIGTERM
