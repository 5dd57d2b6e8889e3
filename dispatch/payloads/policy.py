"""How often, how long and how silently a dispatch may run; it stands in `queued`, at its birth.

The defaults are those of `Settings`: what an entry of an older version does not say.
"""

import msgspec


class DispatchPolicy(
    msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True
):
    """The limits of one dispatch. Durations in milliseconds."""

    max_attempts: int
    repeatable: bool = False
    """True: a turn whose visible effects may happen twice; it is tried again all the same."""
    backoff_ms: int = 1_000
    """Wait before attempt 2; doubles per attempt up to `max_backoff_ms`."""
    max_backoff_ms: int = 60_000
    run_timeout_ms: int = 7_200_000
    """Hard limit of one run."""
    warn_ms: int = 300_000
    """A run whose agent was mute this long is warned; 0: never."""
    progress_ms: int = 900_000
    """A run whose agent was mute this long is cancelled, then failed; 0: never."""

    @property
    def text(self) -> str:
        """Return all but `max_attempts` as the state hash holds it."""
        return (
            f"{int(self.repeatable)}:{self.backoff_ms}:{self.max_backoff_ms}"
            f":{self.run_timeout_ms}:{self.warn_ms}:{self.progress_ms}"
        )


def from_text(max_attempts: int, text: str) -> DispatchPolicy:
    """Read what `text` returned; an empty one is that of an older version: the defaults."""
    if not text:
        return DispatchPolicy(max_attempts=max_attempts)
    repeatable, backoff, max_backoff, run_timeout, warn, progress = map(int, text.split(":"))
    return DispatchPolicy(
        max_attempts=max_attempts,
        repeatable=bool(repeatable),
        backoff_ms=backoff,
        max_backoff_ms=max_backoff,
        run_timeout_ms=run_timeout,
        warn_ms=warn,
        progress_ms=progress,
    )
