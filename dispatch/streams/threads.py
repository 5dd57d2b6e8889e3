"""Transitions of a thread by its people: create, signal, accept, cancel, delete; revalidate.

Each is one script and may be sent twice: creating, accepting (by key), cancelling and deleting
again change nothing. Times are Redis's.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from dispatch import payloads
from dispatch.config import Settings
from dispatch.errors import ArbeError, Conflict, Gone, NotFound, TooBusy
from dispatch.ids import AgentId, DispatchId, EntryId, ThreadId
from dispatch.models.houses import WhenBusy
from dispatch.models.threads import ThreadStatus
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.policy import DispatchPolicy
from dispatch.payloads.signals import (
    DelegationEnded,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
)
from dispatch.streams import keys
from dispatch.streams.connection import Connection
from dispatch.streams.scripts import Scripts

Answer: TypeAlias = PermissionGranted | PermissionDenied | PermissionExpired | DelegationEnded


class Accepted(msgspec.Struct, frozen=True):
    """An entry stands on the stream, with the dispatches it gave birth to."""

    entry_id: EntryId
    dispatches: tuple[tuple[DispatchId, AgentId], ...]
    duplicate: bool
    """True: this idempotency key had been accepted before; nothing was added."""
    muted: tuple[tuple[AgentId, str], ...] = ()
    """Agents (and their handles) that the entry names though nothing wakes them there."""


class Lane(msgspec.Struct, frozen=True):
    """Who shall take a turn, and by which limits."""

    agent_id: AgentId
    policy: DispatchPolicy


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms an entry is accepted."""

    when_busy: WhenBusy = "enqueue"
    """What becomes of it in a lane that is busy."""
    if_status: tuple[ThreadStatus, ...] = ()
    """Only while the thread's status is one of these; empty: whatever it is."""
    is_sub_job: bool = False
    """Chooses the status vocabulary."""


_ON_ANY_TERMS: Final = Terms()


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


async def signal_once(
    scripts: Scripts,
    thread_id: ThreadId,
    payload: payloads.KnownPayload,
    *,
    key: str,
    idempotency_seconds: int,
) -> None:
    """Append such an entry unless something stands under this key; see `accept`."""
    answer = await scripts.run(
        "signal",
        _accept_keys(thread_id)[:4],
        payloads.encode(payload),
        _digest(key.encode()),
        idempotency_seconds,
    )
    if _word(answer) not in {"OK", "DUPLICATE"}:
        raise refused(thread_id, _word(answer))


async def accept(
    scripts: Scripts,
    thread_id: ThreadId,
    chat: Chat,
    *,
    key: str,
    body: bytes,
    lanes: tuple[Lane, ...],
    settings: Settings,
    terms: Terms = _ON_ANY_TERMS,
) -> Accepted:
    """Append a chat entry and give birth to one dispatch per lane, all or nothing.

    Args: body: what the poster sent: another one under the same `key` is refused. Not the
        entry itself, which also holds what the house's agents made of it.

    Promise: one script; the same `key` answers the same entry for `idempotency_seconds`.
    Raises: Conflict (`key_reused`, `stream_full`, `busy`, `status_mismatch`), TooBusy (a lane's
        queue), Gone, NotFound.
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
        terms.when_busy,
        " ".join(terms.if_status),
        "idle" if terms.is_sub_job else "open",
        int(settings.cancel_grace_seconds * 1000),
        _who(chat.by),
    ]
    for lane in lanes:
        policy = lane.policy
        fields = msgspec.json.encode(policy)[1:-1]
        arguments += [str(lane.agent_id), policy.max_attempts, policy.text, fields]
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


async def knows_key(connection: Connection, thread_id: ThreadId, key: str) -> bool:
    """Tell whether an entry was accepted under this key."""
    found = await connection.call("HEXISTS", keys.idempotency(thread_id), _digest(key.encode()))
    return bool(found)


async def cancel(
    scripts: Scripts,
    thread_id: ThreadId,
    dispatch_id: DispatchId,
    *,
    by: Author | None,
    message: str | None,
    grace_seconds: float,
    reason: str = "requested",
    only_queued: bool = False,
) -> str:
    """End a queued dispatch at once, or ask a running one to end within the grace.

    Args: reason: a stable word for what is asked of a running one. only_queued: withdraw it,
        that is, leave it alone if it has started.
    Returns: `cancelled`, `requested`, `running` (`only_queued`), or `none` (it ended before, or
        never was).
    """
    who = _who(by) if by else ""
    why = f',"message":{msgspec.json.encode(message).decode()}' if message else ""
    answer = await scripts.run(
        "cancel",
        [*_thread_keys(thread_id), keys.DUE, keys.DIRTY],
        dispatch_id,
        int(grace_seconds * 1000),
        who + why,
        reason,
        "queued" if only_queued else "",
    )
    word = _word(answer)
    if word not in {"CANCELLED", "REQUESTED", "RUNNING", "NONE"}:
        raise refused(thread_id, word)
    return word.lower()


async def answer(
    scripts: Scripts,
    thread_id: ThreadId,
    told: Answer,
    *,
    redeliver_after_seconds: float,
) -> AgentId | Literal["answered", "early", "none"]:
    """Answer what a dispatch asked; one that expired counts only after its deadline.

    Promise: each question has one answer.
    Returns: the lane whose agent can go on now and wants a hint; `answered`: its run is under
        way, or other questions are open; `early`; `none`: it was answered, or its turn is over.
    """
    if isinstance(told, DelegationEnded):
        ask_id, is_over = told.delegation_id, told.status == "expired"
    else:
        ask_id, is_over = told.permission_id, isinstance(told, PermissionExpired)
    found = await scripts.run(
        "answer",
        [*_thread_keys(thread_id), keys.DUE],
        told.dispatch_id,
        ask_id,
        payloads.encode(told),
        "over" if is_over else "",
        int(redeliver_after_seconds * 1000),
    )
    match _word(found):
        case "OK":
            return AgentId(UUID(found[2].decode())) if found[2] else "answered"
        case "EARLY":
            return "early"
        case "NONE":
            return "none"
        case word:
            raise refused(thread_id, word)


async def delete(
    scripts: Scripts,
    thread_id: ThreadId,
    *,
    tombstone_seconds: int,
    only_at: EntryId | None = None,
) -> bool:
    """Remove every key of the thread and leave a tombstone. Repeatable.

    Args: only_at: only while its state's mark is this ('': there is none), that is, if nothing
        was accepted, started or ended since somebody looked.
    Returns: whether it was removed; True without `only_at`.
    """
    guard = [] if only_at is None else [only_at]
    keys_ = [*_accept_keys(thread_id), keys.restoring(thread_id)]
    answer = await scripts.run("delete", keys_, tombstone_seconds, *guard)
    return _word(answer) == "OK"


async def revalidate(
    scripts: Scripts,
    thread_id: ThreadId,
    *,
    witness: EntryId,
    was_running: bool,
    archived: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Compare a stream with what somebody remembers of it; tell whether it had lost its end.

    Args: witness: the row's watermark, the last archived entry, or one that a run was told to
        stand. was_running: whether work was under way. archived: the state hash that the
        archived entries make; with it a stream that is missing begins.
    Promise: a stream that is shorter says so (`signal.thread.stream_rollback`), its open
    dispatches have failed, and it may be written again; one that is missing is made anew.
    Raises: Gone; NotFound, if neither stream nor witness are there.
    """
    answer = await scripts.run(
        "revalidate",
        [*_thread_keys(thread_id), keys.DUE, keys.DIRTY],
        witness,
        int(was_running),
        *(text for field in archived.items() for text in field),
    )
    word = _word(answer)
    if word not in {"OK", "ROLLBACK"}:
        raise refused(thread_id, word)
    return word == "ROLLBACK"


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
        case "ACTIVE":
            dispatch_id = answer[2].decode()
            return Conflict(
                "busy",
                f"Agent {answer[1].decode()} is busy with dispatch {dispatch_id}.",
                next_step="Wait for its end, cancel it, or choose another `whenBusy`.",
                agentId=answer[1].decode(),
                dispatchId=dispatch_id,
            )
        case "STATUS":
            status = answer[1].decode()
            return Conflict(
                "status_mismatch",
                f"Thread {thread_id} is {status}, which `ifStatus` does not name.",
                next_step="Look at the thread, then decide again.",
                threadStatus=status,
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


def _who(by: Author) -> str:
    return f',"by":{msgspec.json.encode(by).decode()}'


def _thread_keys(thread_id: ThreadId) -> list[str]:
    return [keys.stream(thread_id), keys.state(thread_id)]


def _accept_keys(thread_id: ThreadId) -> list[str]:
    return [
        *_thread_keys(thread_id),
        keys.idempotency(thread_id),
        keys.idempotency_ages(thread_id),
        keys.DUE,
        keys.DIRTY,
    ]


def _word(answer: list[Any]) -> str:
    word: bytes = answer[0]
    return word.decode()


def _entry(raw: bytes) -> EntryId:
    return EntryId(raw.decode())


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]
