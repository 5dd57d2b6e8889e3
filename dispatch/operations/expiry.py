"""When a thread's time is over, as callers say it: a moment, or seconds from now."""

from datetime import UTC, datetime, timedelta
from typing import Final

from dispatch import clock
from dispatch.errors import Invalid

_MAX_LIFE_SECONDS: Final = 10 * 366 * 24 * 3600


def expires_at(at: int | str | None, in_seconds: float | None) -> datetime | None:
    """Return the moment that is meant; None if neither is given.

    Args: at: Unix ms, or ISO 8601 with a time zone.
    Raises: Invalid: both, a moment that is none, that has passed or is beyond ten years.
    """
    if at is not None and in_seconds is not None:
        raise Invalid("`expiresAt` and `expiresIn` exclude each other.", next_step="Send one.")
    now = clock.now()
    if in_seconds is not None:
        if not 0 < in_seconds <= _MAX_LIFE_SECONDS:
            raise _out_of_range("expiresIn")
        return now + timedelta(seconds=in_seconds)
    if at is None:
        return None
    moment = _moment(at)
    if not now < moment <= now + timedelta(seconds=_MAX_LIFE_SECONDS):
        raise _out_of_range("expiresAt")
    return moment


def _moment(at: int | str) -> datetime:
    try:
        if isinstance(at, int):
            return datetime.fromtimestamp(at / 1000, tz=UTC)
        moment = datetime.fromisoformat(at)
    except (ValueError, OverflowError, OSError) as error:
        raise _no_moment() from error
    if moment.tzinfo is None:
        raise _no_moment()
    return moment


def _no_moment() -> Invalid:
    return Invalid(
        "`expiresAt` is not a moment.",
        next_step="Send Unix milliseconds, or ISO 8601 with a zone: 2026-11-22T09:00:00Z.",
    )


def _out_of_range(name: str) -> Invalid:
    return Invalid(
        f"`{name}` must lie in the future, by ten years at most.",
        next_step="Send a later moment, or delete the thread.",
    )
