"""Reading a thread's live entries: pages of its stream, its tail, its state hash.

What was archived is not here: who may begin before it reads `whole.Entries`.
Entries come as stored; nothing is decoded that a follower does not need decoded.
"""

from typing import Any, Literal

import msgspec

from dispatch import payloads
from dispatch.errors import Gone, NotFound
from dispatch.ids import (
    BEGINNING,
    DispatchId,
    EntryId,
    RunId,
    ThreadId,
    entry_id_of,
    milliseconds_of,
    redis_id_of,
)
from dispatch.models import state as states
from dispatch.models.state import Ask
from dispatch.streams import keys
from dispatch.streams.connection import Connection
from dispatch.streams.scripts import Scripts


class Entry(msgspec.Struct, frozen=True):
    """One item of a stream. `writer` is `<run id>:<n>` for what a run wrote."""

    id: EntryId
    raw: bytes
    """The payload's JSON."""
    seq: int | None = None
    writer: str | None = None

    @property
    def at(self) -> int:
        """Return Unix milliseconds of Redis's clock when it was appended."""
        return milliseconds_of(self.id)

    @property
    def payload(self) -> payloads.Payload:
        """Decode the payload."""
        return payloads.decode(self.raw)

    def wire(self) -> bytes:
        """Return `{"id":…,"at":…,"seq":…,"payload":…}`."""
        seq = b',"seq":%d' % self.seq if self.seq is not None else b""
        return b'{"id":"%s","at":%d%s,"payload":%s}' % (
            self.id.encode(),
            self.at,
            seq,
            self.raw,
        )


def wire_of(line: bytes) -> bytes:
    """Return the wire entry of a line the scripts published: `ms-n seq payload`."""
    redis_id, seq, payload = line.split(b" ", 2)
    ms, number = redis_id.split(b"-")
    sequence = b',"seq":' + seq if seq else b""
    return b'{"id":"%s_%s","at":%s%s,"payload":%s}' % (
        ms.zfill(15),
        number.zfill(10),
        ms,
        sequence,
        payload,
    )


async def page(
    connection: Connection,
    thread_id: ThreadId,
    *,
    after: EntryId = BEGINNING,
    limit: int,
) -> list[Entry]:
    """Return up to `limit` entries after a place, oldest first."""
    start = f"({redis_id_of(after)}" if after != BEGINNING else "-"
    found = await connection.call("XRANGE", keys.stream(thread_id), start, "+", "COUNT", limit)
    return [_entry(row) for row in _rows(found)]


async def latest(
    connection: Connection,
    thread_id: ThreadId,
    *,
    before: EntryId | None = None,
    limit: int,
) -> list[Entry]:
    """Return up to `limit` entries before a place (or the end), newest first."""
    end = f"({redis_id_of(before)}" if before is not None else "+"
    found = await connection.call("XREVRANGE", keys.stream(thread_id), end, "-", "COUNT", limit)
    return [_entry(row) for row in _rows(found)]


async def rest(
    connection: Connection, thread_id: ThreadId, *, after: EntryId, limit: int
) -> list[Entry]:
    """Return all that follows a place, read `limit` entries at a time."""
    found: list[Entry] = []
    while True:
        place = found[-1].id if found else after
        some = await page(connection, thread_id, after=place, limit=limit)
        found += some
        if len(some) < limit:
            return found


async def find(connection: Connection, thread_id: ThreadId, entry_id: EntryId) -> Entry | None:
    """Return one entry, or None."""
    place = redis_id_of(entry_id)
    found = await connection.call("XRANGE", keys.stream(thread_id), place, place)
    return _entry(found[0]) if found else None


async def tail(connection: Connection, thread_id: ThreadId) -> EntryId:
    """Return the id of the last entry.

    Raises: Gone, NotFound.
    """
    last = await latest(connection, thread_id, limit=1)
    if not last:
        await require_open(connection, thread_id)
        return BEGINNING
    return last[0].id


async def status(
    connection: Connection, thread_id: ThreadId
) -> Literal["open", "deleted", "missing"]:
    """Tell whether the stream is there."""
    is_open, deleted = await connection.call("HMGET", keys.state(thread_id), "open", "deleted")
    if is_open is not None:
        return "open"
    return "deleted" if deleted is not None else "missing"


async def dispatch_status(
    connection: Connection, thread_id: ThreadId, dispatch_id: DispatchId
) -> Literal["open", "ended", "deleted", "missing"]:
    """Tell whether a dispatch that was born has ended, or if its stream is not there."""
    found = await connection.call(
        "HMGET", keys.state(thread_id), f"dispatch:{dispatch_id}", "open", "deleted"
    )
    if found[0] is not None:
        return "open"
    if found[1] is not None:
        return "ended"
    return "deleted" if found[2] is not None else "missing"


async def list_asks(
    connection: Connection, thread_id: ThreadId, dispatch_id: DispatchId
) -> tuple[Ask, ...]:
    """Return what a dispatch waits for; nothing, if all was answered or it has ended."""
    text = await connection.call("HGET", keys.state(thread_id), f"asks:{dispatch_id}")
    return states.asks_of(text.decode()) if text is not None else ()


async def require_open(connection: Connection, thread_id: ThreadId) -> None:
    """Return if the stream is there.

    Raises: Gone, NotFound.
    """
    match await status(connection, thread_id):
        case "open":
            return
        case "deleted":
            raise Gone(str(thread_id))
        case "missing":
            raise NotFound("thread", str(thread_id))


async def state_fields(connection: Connection, thread_id: ThreadId) -> dict[str, str]:
    """Return the state hash; empty if there is no such stream."""
    found = await connection.call("HGETALL", keys.state(thread_id))
    return {_text(name): _text(value) for name, value in _pairs(found)}


async def discard_chunks(
    scripts: Scripts, thread_id: ThreadId, run_id: RunId, *, start: EntryId, end: EntryId
) -> None:
    """Delete a run's chunks after `start` and before `end`, which a finished message replaced.

    Promise: nothing but chunks of that run goes; the state does not change. Repeatable.
    """
    cursor, last = redis_id_of(start), redis_id_of(end)
    while True:
        answer = await scripts.run(
            "compact",
            [keys.stream(thread_id), keys.state(thread_id)],
            run_id,
            cursor,
            last,
        )
        if answer[0] == b"OK":
            return
        cursor = answer[1].decode()


def _entry(row: Any) -> Entry:
    redis_id, found = row
    fields: dict[bytes, bytes] = dict(_pairs(found))
    seq = fields.get(b"s")
    writer = fields.get(b"w")
    return Entry(
        id=entry_id_of(_text(redis_id)),
        raw=fields[b"p"],
        seq=int(seq) if seq is not None else None,
        writer=_text(writer) if writer is not None else None,
    )


def _rows(found: Any) -> list[Any]:
    return found or []


def _pairs(found: Any) -> list[tuple[bytes, bytes]]:
    """Return a hash's or an entry's fields, however redis-py hands them over."""
    if isinstance(found, dict):
        items: Any = found.items()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return list(items)
    return list(zip(found[::2], found[1::2], strict=True))


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
