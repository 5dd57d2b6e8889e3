"""What a request for a stream asks: from where, and how (Durable Streams protocol, read side).

Own additions to the protocol: `Last-Event-ID` (a browser's EventSource) wins over `offset`, and
`tail=N` means: from the last N entries on. Unknown parameters are ignored, as it wants.
"""

import math
import random
import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from starlette.requests import Request

from dispatch import clock
from dispatch.errors import Invalid
from dispatch.ids import BEGINNING, ENTRY_ID, EntryId

Live = Literal["long-poll", "sse"]
_LIVE: Final[dict[str, Live]] = {"long-poll": "long-poll", "sse": "sse"}

# A live answer's cursor tells a cache which requests may share it; it is no position. The
# protocol counts intervals of 20 s since this moment, and goes beyond what a client shows.
_CURSOR_EPOCH_SECONDS: Final = 1_728_432_000
_CURSOR_INTERVAL_SECONDS: Final = 20
_CURSOR_MAX_JITTER_SECONDS: Final = 3_600
_CURSOR: Final = re.compile(r"[0-9]{1,15}\Z")
_COUNT: Final = re.compile(r"[0-9]{1,9}\Z")


class Tail(msgspec.Struct, frozen=True):
    """From the last `count` entries on; 0 is the protocol's `now`."""

    count: int


class Wanted(msgspec.Struct, frozen=True):
    """One request, understood."""

    start: EntryId | Tail
    live: Live | None
    cursor: int | None


def read(request: Request, *, max_tail: int) -> Wanted:
    """Understand a request.

    Raises: Invalid.
    """
    live = _live(request.query_params.getlist("live"))
    start = _start(request, max_tail=max_tail)
    if start is None:
        if live is not None:
            raise Invalid(
                "A live read needs `offset`.",
                next_step="Send `offset=-1` for the beginning or `offset=now` for the end.",
            )
        start = BEGINNING
    cursors = request.query_params.getlist("cursor")
    cursor = int(cursors[0]) if cursors and _CURSOR.match(cursors[0]) else None
    return Wanted(start, live, cursor)


def cursor_after(given: int | None) -> int:
    """Return the cursor of an answer: the present interval, or beyond what the client has."""
    present = int(clock.now().timestamp() - _CURSOR_EPOCH_SECONDS) // _CURSOR_INTERVAL_SECONDS
    if given is None or given < present:
        return present
    jitter_seconds = random.uniform(1, _CURSOR_MAX_JITTER_SECONDS)  # noqa: S311 no secret
    return given + max(1, math.ceil(jitter_seconds / _CURSOR_INTERVAL_SECONDS))


def _live(given: Sequence[str]) -> Live | None:
    if not given:
        return None
    if len(given) > 1 or given[0] not in _LIVE:
        raise Invalid(
            "`live` is neither `long-poll` nor `sse`.",
            next_step="Leave it out for what is there already.",
        )
    return _LIVE[given[0]]


def _start(request: Request, *, max_tail: int) -> EntryId | Tail | None:
    last_seen = request.headers.get("last-event-id")
    if last_seen:
        # An EventSource repeats its first URL when it reconnects; this header is newer.
        return _offset([last_seen])
    offsets = request.query_params.getlist("offset")
    tails = request.query_params.getlist("tail")
    if offsets and tails:
        raise Invalid("`offset` and `tail` exclude each other.", next_step="Send one of them.")
    if tails:
        return _tail(tails, max_tail=max_tail)
    return _offset(offsets) if offsets else None


def _offset(given: Sequence[str]) -> EntryId | Tail:
    if len(given) > 1:
        raise Invalid("`offset` was given twice.", next_step="Send it once.")
    match given[0]:
        case "-1":
            return BEGINNING
        case "now":
            return Tail(0)
        case text if ENTRY_ID.match(text) and text.isascii():
            return EntryId(text)
        case _:
            raise Invalid(
                "`offset` is not a place on a stream.",
                next_step="Send `-1`, `now`, or an offset that an answer gave you, unchanged.",
            )


def _tail(given: Sequence[str], *, max_tail: int) -> Tail:
    if len(given) > 1 or not _COUNT.match(given[0]) or int(given[0]) > max_tail:
        raise Invalid(
            f"`tail` is not a number from 0 to {max_tail}.",
            next_step="Read older entries from `offset=-1` on.",
        )
    return Tail(int(given[0]))
