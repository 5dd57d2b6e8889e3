"""Typed calls of the scripts that move entries out of a stream and back.

Each is fenced by the pointer as it was read: whoever was overtaken changes nothing.
"""

from collections.abc import Sequence
from typing import Final, Literal
from uuid import UUID

from dispatch.errors import Conflict
from dispatch.ids import BEGINNING, EntryId, ThreadId, entry_id_of, redis_id_of
from dispatch.models.archives import Pointer
from dispatch.streams import keys
from dispatch.streams.connection import Connection
from dispatch.streams.entries import Entry
from dispatch.streams.scripts import Scripts
from dispatch.streams.threads import refused

_RESTORING_SECONDS: Final = 600
"""What a restore that died has put beside the stream goes after this."""
Trimmed = Literal["ok", "moved", "changed", "needed", "last"]


async def pointer(connection: Connection, thread_id: ThreadId) -> Pointer:
    """Return how far a thread is archived."""
    found = await connection.call("HGET", keys.state(thread_id), "archived")
    return Pointer.of(found.decode() if found is not None else None)


async def count_live(connection: Connection, thread_id: ThreadId) -> int:
    """Return how many entries are on the stream itself."""
    return int(await connection.call("XLEN", keys.stream(thread_id)))


async def trim(
    scripts: Scripts, thread_id: ThreadId, seen: Pointer, entries: Sequence[Entry]
) -> Trimmed:
    """Remove entries that stand in a segment from the head of the stream.

    Promise: exactly these go, and the pointer moves with them, or nothing happens.
    Returns: `moved`: the pointer is not where it was seen (a repeat hears this too);
        `changed`: the head is another one; `needed`: an open dispatch may still read of it;
        `last`: the stream would be empty.
    Raises: Gone, NotFound.
    """
    answer = await scripts.run(
        "archive",
        [keys.stream(thread_id), keys.state(thread_id)],
        seen.text,
        entries[0].id,
        entries[-1].id,
        len(entries),
    )
    match answer[0].decode():
        case "OK":
            return "ok"
        case "MOVED":
            return "moved"
        case "CHANGED":
            return "changed"
        case "NEEDED":
            return "needed"
        case "LAST":
            return "last"
        case word:
            raise refused(thread_id, word)


async def refill(
    scripts: Scripts,
    thread_id: ThreadId,
    seen: Pointer,
    *,
    after: EntryId,
    entries: Sequence[Entry] = (),
) -> EntryId:
    """Put archived entries beside the stream after those that are there; none: copy live ones.

    Returns: the last that is there now.
    Raises: Gone, NotFound; Conflict (`archive_moved`).
    """
    answer = await scripts.run(
        "refill",
        _keys(thread_id),
        seen.text,
        redis_id_of(after) if after != BEGINNING else "",
        _RESTORING_SECONDS,
        *(text for entry in entries for text in _fields(entry)),
    )
    word = answer[0].decode()
    if word in {"MOVED", "BEHIND"}:
        raise overtaken(thread_id)
    if word != "OK":
        raise refused(thread_id, word)
    return entry_id_of(answer[1].decode())


async def swap_in(
    scripts: Scripts, thread_id: ThreadId, seen: Pointer, *, archived_count: int
) -> Literal["ok", "behind", "changed"]:
    """Let what was refilled be the stream.

    Returns: `behind`: more came meanwhile, copy on; `changed`: something went meanwhile.
    Raises: Gone, NotFound; Conflict (`archive_moved`, `thread_running`).
    """
    answer = await scripts.run("restore", _keys(thread_id), seen.text, archived_count)
    match answer[0].decode():
        case "OK":
            return "ok"
        case "BEHIND":
            return "behind"
        case "CHANGED":
            return "changed"
        case "MOVED":
            raise overtaken(thread_id)
        case "BUSY":
            raise running(thread_id)
        case word:
            raise refused(thread_id, word)


async def sweep_place(connection: Connection) -> ThreadId | None:
    """Return the thread after which the archive's sweep goes on; None: at the first."""
    found = await connection.call("HGET", keys.ARCHIVE, "after")
    return ThreadId(UUID(found.decode())) if found else None


async def keep_sweep_place(connection: Connection, place: ThreadId | None) -> None:
    """Remember the thread after which the archive's sweep goes on."""
    await connection.call("HSET", keys.ARCHIVE, "after", str(place or ""))


async def next_shard(connection: Connection) -> int:
    """Count the passes of the archive's sweep: each looks at the next shard of objects."""
    return int(await connection.call("HINCRBY", keys.ARCHIVE, "shard", 1))


def overtaken(thread_id: ThreadId) -> Conflict:
    """Return the refusal of a call that met another one of its kind."""
    return Conflict(
        "archive_moved",
        f"Thread {thread_id} is being archived or restored by somebody else.",
        next_step="Look at the thread, then decide again.",
    )


def running(thread_id: ThreadId) -> Conflict:
    """Return the refusal of what needs a thread at rest."""
    return Conflict(
        "thread_running",
        f"Thread {thread_id} has a turn under way.",
        next_step="Wait for its end, or cancel it.",
    )


def _fields(entry: Entry) -> tuple[str | bytes | int, ...]:
    seq = "" if entry.seq is None else entry.seq
    return redis_id_of(entry.id), entry.raw, seq, entry.writer or ""


def _keys(thread_id: ThreadId) -> list[str]:
    return [keys.stream(thread_id), keys.state(thread_id), keys.restoring(thread_id)]
