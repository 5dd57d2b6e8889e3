"""Tasks that a turn gave to other agents, as its stream tells them, and their limits. Pure."""

import hashlib
from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid5

import msgspec

from dispatch.errors import Invalid
from dispatch.ids import CancellationId, DispatchId, EnvironmentId, HouseId, ThreadId
from dispatch.models.cancellations import NewCancellation
from dispatch.models.edits import FoldEntry
from dispatch.payloads.signals import Delegated, DelegationEnded

_MAX_CALL_CHARACTERS: Final = 200


class Delegation(msgspec.Struct, frozen=True):
    """A task, and what came of it if it has ended."""

    asked: Delegated
    ended: DelegationEnded | None = None


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """The thread that a call's task is born with."""

    house_id: HouseId
    parent_thread_id: ThreadId
    parent_dispatch_id: DispatchId
    parent_call_id: str
    name: str | None = None
    environment_id: EnvironmentId | None = None


class Task(msgspec.Struct, frozen=True):
    """A thread that works for a call, and for whose."""

    thread_id: ThreadId
    house_id: HouseId
    parent_thread_id: ThreadId
    parent_dispatch_id: DispatchId


def delegations(entries: Iterable[FoldEntry]) -> dict[str, Delegation]:
    """Return every task that stands on a stream by its id, in the order of giving."""
    found: dict[str, Delegation] = {}
    for entry in entries:
        try:
            payload = entry.payload
        except Invalid:
            continue
        if isinstance(payload, Delegated):
            found[payload.delegation_id] = Delegation(payload)
        elif isinstance(payload, DelegationEnded) and payload.delegation_id in found:
            found[payload.delegation_id] = Delegation(
                found[payload.delegation_id].asked, payload
            )
    return found


def delegation_id(thread_id: ThreadId, dispatch_id: DispatchId) -> str:
    """Name a task by the thread and the dispatch that work at it."""
    return f"{thread_id}/{dispatch_id}"


def place_of(name: str) -> tuple[ThreadId, DispatchId]:
    """Return the thread and the dispatch that work at a task."""
    thread_id, _, dispatch_id = name.partition("/")
    return ThreadId(UUID(thread_id)), DispatchId(dispatch_id)


def call_key(call_id: str) -> str:
    """Return what a row holds of a call's id; a model may choose long ones."""
    if 0 < len(call_id) <= _MAX_CALL_CHARACTERS and call_id.isprintable():
        return call_id
    return f"sha256:{hashlib.sha256(call_id.encode('utf-8', 'surrogatepass')).hexdigest()}"


def cancellation(thread_id: ThreadId, house_id: HouseId, *, before_ms: int) -> NewCancellation:
    """Ask for the end of a task that nobody waits for; whoever asks, it is one cancel."""
    return NewCancellation(
        id=CancellationId(uuid5(thread_id, "nobody waits for it")),
        house_id=house_id,
        thread_id=thread_id,
        by_kind="service",
        by_id="delegation",
        message="Nobody waits for this task any more.",
        before_ms=before_ms,
    )
