"""Transitions of a thread by its people: create, signal, accept, cancel, delete.

Each is one script and may be sent twice: creating, accepting (by key), cancelling and deleting
again change nothing. Times are Redis's.
"""

import hashlib
from typing import Any
from uuid import UUID

import msgspec

from dispatch import payloads
from dispatch.config import Settings
from dispatch.errors import ArbeError, Conflict, Gone, NotFound, TooBusy
from dispatch.ids import AgentId, DispatchId, EntryId, ThreadId
from dispatch.payloads.chat import Author, Chat
from dispatch.streams import keys
from dispatch.streams.scripts import Scripts


class Accepted(msgspec.Struct, frozen=True):
    """An entry stands on the stream, with the dispatches it gave birth to."""

    entry_id: EntryId
    dispatches: tuple[tuple[DispatchId, AgentId], ...]
    duplicate: bool
    """True: this idempotency key had been accepted before; nothing was added."""


class Lane(msgspec.Struct, frozen=True):
    """Who shall take a turn, and how often it may be tried."""

    agent_id: AgentId
    max_attempts: int


async def create(
    scripts: Scripts, thread_id: ThreadId, payload: payloads.KnownPayload
) -> EntryId | None:
    """Open a stream with its first entry; None if it is open already.

    Raises: Gone, if the thread was deleted.
    """
    answer = await scripts.run("create", _thread_keys(thread_id), payloads.encode(payload))
    match _word(answer):
        case "OK":
            return _entry(answer[1])
        case "EXISTS":
            return None
        case word:
            raise refused(thread_id, word)


async def signal(
    scripts: Scripts, thread_id: ThreadId, payload: payloads.KnownPayload
) -> EntryId:
    """Append one durable entry that changes no dispatch. Sent twice, it stands twice."""
    answer = await scripts.run("signal", _thread_keys(thread_id), payloads.encode(payload))
    if _word(answer) != "OK":
        raise refused(thread_id, _word(answer))
    return _entry(answer[1])


async def accept(
    scripts: Scripts,
    thread_id: ThreadId,
    chat: Chat,
    *,
    key: str,
    body: bytes,
    lanes: tuple[Lane, ...],
    settings: Settings,
) -> Accepted:
    """Append a chat entry and give birth to one dispatch per lane, all or nothing.

    Args: body: what the poster sent: another one under the same `key` is refused. Not the
        entry itself, which also holds what the house's agents made of it.

    Promise: one script; the same `key` answers the same entry for `idempotency_seconds`.
    Raises: Conflict (`key_reused`, `stream_full`), TooBusy (a lane's queue), Gone, NotFound.
    """
    raw = payloads.encode(chat)
    arguments: list[str | bytes | int | float] = [
        _digest(key.encode()),
        _digest(body),
        raw,
        settings.max_queue_depth,
        settings.max_stream_entries,
        int(settings.redeliver_after_seconds * 1000),
        settings.idempotency_seconds,
    ]
    for lane in lanes:
        arguments += [str(lane.agent_id), lane.max_attempts]
    answer = await scripts.run("accept", _accept_keys(thread_id), *arguments)
    word = _word(answer)
    if word not in {"OK", "DUPLICATE"}:
        raise _not_accepted(thread_id, answer, settings)
    entry_id = _entry(answer[1])
    return Accepted(
        entry_id=entry_id,
        dispatches=tuple(
            (DispatchId(f"{entry_id}.{index}"), AgentId(UUID(lane)))
            for index, lane in enumerate(answer[2].decode().split())
        ),
        duplicate=word == "DUPLICATE",
    )


async def cancel(
    scripts: Scripts,
    thread_id: ThreadId,
    dispatch_id: DispatchId,
    *,
    by: Author | None,
    message: str | None,
    grace_seconds: float,
) -> str:
    """End a queued dispatch at once, or ask a running one to end within the grace.

    Returns: `cancelled`, `requested`, or `none` (it ended before, or never was).
    """
    who = f',"by":{msgspec.json.encode(by).decode()}' if by else ""
    why = f',"message":{msgspec.json.encode(message).decode()}' if message else ""
    answer = await scripts.run(
        "cancel",
        [*_thread_keys(thread_id), keys.DUE],
        dispatch_id,
        int(grace_seconds * 1000),
        who + why,
    )
    word = _word(answer)
    if word not in {"CANCELLED", "REQUESTED", "NONE"}:
        raise refused(thread_id, word)
    return word.lower()


async def delete(scripts: Scripts, thread_id: ThreadId, *, tombstone_seconds: int) -> None:
    """Remove every key of the thread and leave a tombstone. Repeatable."""
    await scripts.run("delete", _accept_keys(thread_id), tombstone_seconds)


def refused(thread_id: ThreadId, word: str) -> ArbeError:
    """Translate a script's refusal for callers without a fence."""
    if word == "GONE":
        return Gone(str(thread_id))
    return NotFound("thread", str(thread_id))


def _not_accepted(thread_id: ThreadId, answer: list[Any], settings: Settings) -> ArbeError:
    match _word(answer):
        case "MISMATCH":
            return Conflict(
                "key_reused",
                "This Idempotency-Key was used for another entry of this thread.",
                next_step="Use a new key for a new entry.",
            )
        case "FULL":
            return Conflict(
                "stream_full",
                f"Thread {thread_id} has reached {settings.max_stream_entries} entries.",
                next_step="Go on in a new thread, or raise ARBE_MAX_STREAM_ENTRIES.",
            )
        case "BUSY":
            return TooBusy(
                f"Agent {answer[1].decode()} has {settings.max_queue_depth} entries waiting "
                f"in this thread (ARBE_MAX_QUEUE_DEPTH).",
                retry_after_seconds=5.0,
            )
        case word:
            return refused(thread_id, word)


def _thread_keys(thread_id: ThreadId) -> list[str]:
    return [keys.stream(thread_id), keys.state(thread_id)]


def _accept_keys(thread_id: ThreadId) -> list[str]:
    return [
        *_thread_keys(thread_id),
        keys.idempotency(thread_id),
        keys.idempotency_ages(thread_id),
        keys.DUE,
    ]


def _word(answer: list[Any]) -> str:
    word: bytes = answer[0]
    return word.decode()


def _entry(raw: bytes) -> EntryId:
    return EntryId(raw.decode())


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]
