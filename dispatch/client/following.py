"""Follow a thread's stream: catch up, stay live, and come back to the same place.

The protocol is the read side of Durable Streams over server-sent events: `data` carries a JSON
array of entries, the `control` after it says where to resume. A line that breaks between the
two is read again from the last control; entries seen already are dropped by their id.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec

from dispatch.client import sse
from dispatch.client.connection import Connection, Json
from dispatch.client.patience import Patience
from dispatch.errors import Gone, TooBusy, Unavailable
from dispatch.ids import ENTRY_ID

_FROM_THE_BEGINNING: Final = "-1"


async def follow(
    connection: Connection,
    path: str,
    *,
    after: str | None,
    patience_seconds: float,
    stays: bool,
) -> AsyncGenerator[Json]:
    """Yield entries as they stand on the stream, each once, in order.

    Promise: ends when the thread is deleted or its stream closed. A broken line, a restarted
    API or a server at its limit is waited out.
    Args: after: an entry id, `now`, or None for the beginning. patience_seconds: how long the
    API may be away at a stretch, once it has answered. stays: False: end at the present tail.
    Raises: Gone, if the thread was deleted before the first answer; Unavailable or TooBusy
    when patience has run out; NotFound, Unauthenticated.
    """
    place = _Place(after, stays=stays)
    patience = Patience(connection.patience_seconds)
    while not place.is_over:
        try:
            async with aclosing(_read(connection, path, place)) as answer:
                async for new_entries in answer:
                    patience.renew(patience_seconds)
                    for entry in new_entries:
                        yield entry
        except Gone:
            if place.was_answered:
                return
            raise
        except (Unavailable, TooBusy) as error:
            await patience.wait(error)


async def _read(
    connection: Connection, path: str, place: "_Place"
) -> AsyncGenerator[list[Json]]:
    """Yield what each event of one live answer brings, until it ends or nothing is left."""
    is_silent = True
    async with connection.live(path, {"live": "sse", "offset": place.offset}) as chunks:
        place.was_answered = True
        async with aclosing(sse.events(chunks)) as events:
            async for event in events:
                is_silent = False
                yield place.take(event)
                if place.is_over:
                    return
    if is_silent:
        # Else a server that only hangs up would be called in a tight loop.
        raise Unavailable(f"The API at {connection.url}", cause="it hung up without a word")


class _Place:
    """Where one follower stands."""

    def __init__(self, after: str | None, *, stays: bool) -> None:
        self.offset = after or _FROM_THE_BEGINNING
        self.is_over = False
        self.was_answered = False
        self._stays = stays
        self._last_id = after if after and ENTRY_ID.match(after) else ""

    def take(self, event: sse.Event) -> list[Json]:
        """Return the entries of an event that are new; move on at a control."""
        if event.name == "data":
            return [entry for entry in _entries(event.data) if self._is_new(entry)]
        if event.name == "control":
            control = msgspec.json.decode(event.data, type=dict[str, Any])
            self.offset = str(control.get("streamNextOffset") or self.offset)
            is_tail = control.get("upToDate") is True
            self.is_over = control.get("streamClosed") is True or (is_tail and not self._stays)
        if event.name == "gone":
            self.is_over = True
        return []

    def _is_new(self, entry: Json) -> bool:
        # Entry ids are fixed-width, so text order is stream order.
        entry_id = str(entry["id"])
        if entry_id <= self._last_id:
            return False
        self._last_id = entry_id
        return True


def _entries(data: bytes) -> list[Json]:
    return msgspec.json.decode(data, type=list[Json])
