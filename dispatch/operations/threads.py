"""Threads as rows: read one (and repair it), list them, label them, say whom they wake."""

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from dispatch import clock, log
from dispatch.errors import Conflict, Unavailable
from dispatch.ids import AgentId, ThreadId
from dispatch.models import merge_patches
from dispatch.models.houses import Caller, House, TriggerMode, WhenBusy
from dispatch.models.pages import Page
from dispatch.models.threads import Thread, ThreadAgent, ThreadFilter, ThreadStatus
from dispatch.operations import expiry, labels, narrate, paging, reconcile, status_guard
from dispatch.operations.record import Record
from dispatch.payloads.signals import ThreadRenamed
from dispatch.stores.postgres import agents, engine, houses
from dispatch.stores.postgres import threads as stored

_log = log.get(__name__)


class ThreadChange(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays as it is, a name of None makes it untitled."""

    name: str | UnsetType | None = UNSET
    pinned: bool | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    when_busy: WhenBusy | UnsetType | None = UNSET
    """For entries that do not say themselves; None: as the house says."""
    config: dict[str, Any] | UnsetType = UNSET
    """Replaced whole."""
    metadata: dict[str, Any] | UnsetType | None = UNSET
    """A merge patch (RFC 7396): null removes a key; None removes all."""
    expires_at: int | str | UnsetType | None = UNSET
    """Unix ms or ISO 8601; None: never."""
    expires_in: float | UnsetType | None = UNSET
    """The same, in seconds from now."""


async def get(record: Record, who: Caller, thread_id: ThreadId) -> Thread:
    """Return a thread, after repairing what stood still in it.

    Promise: the row is served as it stands while Redis is away.
    Raises: NotFound (also for another house's), Gone.
    """
    row = await _row(record, who, thread_id)
    try:
        done = await reconcile.reconcile(record, thread_id)
    except Unavailable as error:
        _log.warning("thread.not_reconciled", thread_id=str(thread_id), cause=error.server)
        return row
    # Somebody else may have repaired it since our look: what counts is what we would show.
    return await _row(record, who, thread_id) if done.after != row.status else row


async def list_threads(
    record: Record,
    who: Caller,
    where: ThreadFilter,
    *,
    cursor: str | None,
    limit: int | None,
) -> Page[Thread]:
    """Return one page of the house's threads, newest first; nothing is repaired."""
    size = paging.size(limit, record.settings)
    before = paging.place(cursor, ThreadId)
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await stored.list(
            connection, house_id=who.house_id, where=where, before=before, limit=size + 1
        )
    return paging.page(found, size)


async def update(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    change: ThreadChange,
    *,
    if_status: Collection[ThreadStatus] = (),
) -> Thread:
    """Name, pin or tag a thread; `signal.thread.renamed` tells of another name.

    Promise: a pin keeps its first time when it is set again. Another busy policy counts as
    `houses.update` says. Patches of metadata at once lose none of their keys. A later end
    saves a thread that has expired and was not removed yet.
    Args: if_status: only while the thread has one of these statuses, if any.
    Raises: NotFound, Gone, Invalid, TooLarge, Conflict (`status_mismatch`, `primary_thread`).
    """
    wanted = _columns(change, record)
    await narrate.ready(record)
    await status_guard.check(record, who, thread_id, if_status)
    async with engine.as_member(record.members, who.member_id) as connection:
        before = await stored.get(connection, thread_id=thread_id, lock=True)
        if before.pinned_at is not None and wanted.get("pinned_at"):
            del wanted["pinned_at"]
        if wanted.get("expires_at"):
            house = await houses.get(connection, house_id=before.house_id)
            _require_mortal(before, house)
        if not isinstance(change.metadata, UnsetType):
            wanted["metadata"] = _noted(before, change.metadata, record)
        after = await stored.update(
            connection, thread_id=thread_id, if_status=if_status, **wanted
        )
    if (after.when_busy, after.expires_at) != (before.when_busy, before.expires_at):
        record.forget()
    if after.name != before.name:
        told = ThreadRenamed(name=after.name, by=narrate.author(who))
        await narrate.tell(record, thread_id, told)
    return after


async def set_trigger_mode(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    agent_id: AgentId,
    trigger_mode: TriggerMode,
) -> None:
    """Say when entries of this one thread wake this agent, whatever the house's default is.

    Raises: NotFound (thread or agent), Gone.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        thread = await stored.get(connection, thread_id=thread_id)
        await agents.set_override(
            connection,
            house_id=thread.house_id,
            thread_id=thread_id,
            agent_id=agent_id,
            trigger_mode=trigger_mode,
        )
    record.forget()


async def list_agents(
    record: Record, who: Caller, thread_id: ThreadId
) -> tuple[ThreadAgent, ...]:
    """Return the house's agents by handle, with the trigger mode that holds in this thread.

    Raises: NotFound, Gone.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        await stored.get(connection, thread_id=thread_id)
        return await stored.list_agents(connection, thread_id=thread_id)


async def reset_trigger_mode(
    record: Record, who: Caller, thread_id: ThreadId, agent_id: AgentId
) -> None:
    """Take a thread's override away: `always` in a direct thread, else the house's word.

    Promise: repeating changes nothing.
    Raises: NotFound, Gone.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        await stored.get(connection, thread_id=thread_id)
        await agents.delete_override(connection, thread_id=thread_id, agent_id=agent_id)
    record.forget()


async def _row(record: Record, who: Caller, thread_id: ThreadId) -> Thread:
    async with engine.as_member(record.members, who.member_id) as connection:
        return await stored.get(connection, thread_id=thread_id)


def _columns(change: ThreadChange, record: Record) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if isinstance(change.name, str):
        wanted["name"] = labels.name(change.name, record.settings)
    elif change.name is None:
        wanted["name"] = None
    if isinstance(change.pinned, bool):
        wanted["pinned_at"] = clock.now() if change.pinned else None
    if isinstance(change.tags, list):
        wanted["tags"] = labels.tags(change.tags, record.settings)
    if not isinstance(change.when_busy, UnsetType):
        wanted["when_busy"] = change.when_busy
    if isinstance(change.config, dict):
        wanted["config"] = labels.thread_config(change.config, record.settings)
    at, in_seconds = _given(change.expires_at), _given(change.expires_in)
    if change.expires_at is not UNSET or change.expires_in is not UNSET:
        wanted["expires_at"] = expiry.expires_at(at, in_seconds)
    return wanted


_T = TypeVar("_T")


def _given(value: _T | UnsetType) -> _T | None:
    return None if isinstance(value, UnsetType) else value


def _noted(before: Thread, patch: dict[str, Any] | None, record: Record) -> dict[str, Any]:
    if patch is None:
        return {}
    labels.free_json(patch, what="metadata")
    return labels.metadata(merge_patches.merge(before.metadata, patch), record.settings)


def _require_mortal(row: Thread, house: House) -> None:
    if row.id == house.primary_thread_id:
        raise Conflict(
            "primary_thread",
            "A house's primary thread lives as long as the house.",
            next_step="Let another thread expire.",
        )
