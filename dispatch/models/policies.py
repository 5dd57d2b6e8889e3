"""How a dispatch may run: how often, how long, how silently.

An agent's `config` says so in seconds, `Settings` says the rest. A dispatch takes its policy
along at birth, so that each later judge (a worker, a sweep, a script) measures by the same one.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec

from dispatch.errors import Invalid
from dispatch.payloads.policy import DispatchPolicy

Number = TypeVar("Number", bool, int)
RESUMING: Final = frozenset({"pi", "langgraph", "llamaindex", "pydantic-ai"})
"""Runners that go on from the thread's history and repeat no tool call that is recorded in it:
a turn of theirs is tried again also after a visible effect, unless the agent says otherwise."""
_MAX_SECONDS: Final = 7 * 24 * 3600
_MAX_ATTEMPTS: Final = 100


class Defaults(Protocol):
    """What an agent's config does not say; `Settings` has it."""

    @property
    def max_attempts(self) -> int:
        """Attempts of a dispatch whose runs died."""
        ...

    @property
    def retry_backoff_seconds(self) -> float:
        """Wait before attempt 2."""
        ...

    @property
    def max_retry_backoff_seconds(self) -> float:
        """Longest wait between attempts."""
        ...

    @property
    def run_timeout_seconds(self) -> float:
        """Hard limit of one run."""
        ...

    @property
    def progress_warn_seconds(self) -> float:
        """Mute agents are warned after this; 0: never."""
        ...

    @property
    def progress_timeout_seconds(self) -> float:
        """Mute agents are stopped after this; 0: never."""
        ...


class _Limits(msgspec.Struct, frozen=True, rename="camel"):
    """The keys of an agent's config that are limits; unset ones fall back to the settings."""

    max_attempts: int | None = None
    repeatable: bool | None = None
    retry_backoff_seconds: float | None = None
    max_retry_backoff_seconds: float | None = None
    run_timeout_seconds: float | None = None
    progress_warn_seconds: float | None = None
    progress_timeout_seconds: float | None = None


def of(config: Mapping[str, Any], defaults: Defaults, *, runner: str = "") -> DispatchPolicy:
    """Return an agent's policy. A config that `check` would refuse counts as empty."""
    try:
        limits = _read(config)
    except Invalid:
        limits = _Limits()
    return DispatchPolicy(
        max_attempts=_or(limits.max_attempts, defaults.max_attempts),
        repeatable=_or(limits.repeatable, runner in RESUMING),
        backoff_ms=_ms(limits.retry_backoff_seconds, defaults.retry_backoff_seconds),
        max_backoff_ms=_ms(
            limits.max_retry_backoff_seconds, defaults.max_retry_backoff_seconds
        ),
        run_timeout_ms=_ms(limits.run_timeout_seconds, defaults.run_timeout_seconds),
        warn_ms=_ms(limits.progress_warn_seconds, defaults.progress_warn_seconds),
        progress_ms=_ms(limits.progress_timeout_seconds, defaults.progress_timeout_seconds),
    )


def check(config: Mapping[str, Any]) -> None:
    """Return if the limits in an agent's config make sense.

    Raises: Invalid, naming the key.
    """
    _read(config)


def _read(config: Mapping[str, Any]) -> _Limits:
    try:
        limits = msgspec.convert(dict(config), _Limits)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The agent's config is wrong: {error}.",
            next_step="Limits are numbers; `repeatable` is true or false.",
        ) from error
    attempts = limits.max_attempts
    if attempts is not None and not 1 <= attempts <= _MAX_ATTEMPTS:
        raise Invalid(f"`maxAttempts` must be between 1 and {_MAX_ATTEMPTS}.")
    for name in ("retry_backoff", "max_retry_backoff", "run_timeout"):
        _in_range(name, getattr(limits, f"{name}_seconds"), least=0.001)
    for name in ("progress_warn", "progress_timeout"):
        _in_range(name, getattr(limits, f"{name}_seconds"), least=0.0)
    return limits


def _in_range(name: str, seconds: float | None, *, least: float) -> None:
    if seconds is None or (math.isfinite(seconds) and least <= seconds <= _MAX_SECONDS):
        return
    first, *rest = f"{name}_seconds".split("_")
    wire = first + "".join(word.capitalize() for word in rest)
    raise Invalid(f"`{wire}` must be between {least:g} and {_MAX_SECONDS} seconds.")


def _or(chosen: Number | None, default: Number) -> Number:
    return default if chosen is None else chosen


def _ms(chosen: float | None, default: float) -> int:
    return round((default if chosen is None else chosen) * 1000)
