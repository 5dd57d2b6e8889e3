"""Create a thread, or get the one with a key; post its first message in the same call.

Creating dispatches nothing; only the message, if there is one, does.
"""

from contextlib import suppress
from typing import Any

import msgspec

from dispatch.errors import ArbeError, Conflict, Invalid, NotFound, Unavailable
from dispatch.ids import AgentId, DispatchId, ThreadId
from dispatch.models import claims
from dispatch.models.claims import NewId
from dispatch.models.houses import Caller, WhenBusy
from dispatch.models.threads import KeyedThread, NewThread, Parent, Thread
from dispatch.operations import (
    delete_thread,
    dispatches,
    expiry,
    labels,
    narrate,
    post_entry,
    refs,
)
from dispatch.operations.post_entry import Draft
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, idempotency, threads
from dispatch.streams.threads import Accepted


class ThreadDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller may choose. `parent`, `environment`: references; no parent: the house."""

    parent: str | None = None
    parent_dispatch_id: str | None = None
    """Which dispatch of the parent thread it works for: it is cancelled with that one."""
    environment: str | None = None
    name: str | None = None
    tags: list[str] = []
    key: str | None = None
    config: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    expires_at: int | str | None = None
    """Unix ms, or ISO 8601: from then on it takes no entries, and is removed."""
    expires_in: float | None = None
    """The same, in seconds from now."""
    message: str | None = None
    when_busy: WhenBusy | None = None


class CreatedThread(msgspec.Struct, frozen=True, kw_only=True):
    """The thread, whether this call made it, and what became of the message."""

    thread: Thread
    created: bool
    accepted: Accepted | None = None


async def create_thread(
    record: Record,
    who: Caller,
    draft: ThreadDraft,
    *,
    entry_key: str,
    new_id: NewId | None = None,
) -> CreatedThread:
    """Make a thread, or get the house's one with this `key`; post the message to it.

    Promise: concurrent calls with one key get one thread; one that has expired is not handed
    out, its key moves to a fresh one. If the message is refused, a thread
    without key made by this call is gone again; with a key, or while a server is away under a
    reserved id, it stays: the same call repeated converges. Nothing is begun for a dispatch
    that has ended or was asked to end.
    Args: entry_key: idempotency key of the message.
    Raises: NotFound (parent, its dispatch, environment), Gone, Invalid, Conflict
        (`parent_ended`), and as `post_entry`.
    """
    message = None if draft.message is None else Draft(text=draft.message)
    if message is not None:
        post_entry.check(message, record.settings)
    reserved = new_id or claims.fresh()
    new = await _new_thread(record, who, draft, ThreadId(reserved.id))
    await _require_open(record, who, new)
    await narrate.ready(record)
    made = await _insert(record, who, new, reserved)
    thread = made.thread
    if made.created:
        await narrate.birth(record, thread.id, by=narrate.author(who), name=thread.name)
    accepted = None
    try:
        if message is not None:
            accepted = await post_entry.post_entry(
                record, who, thread.id, message, key=entry_key
            )
        # Again: a cancel looks for what works for a dispatch after it asked that to end, and we
        # look at the dispatch after our work stands. One of the two sees the other.
        await _require_open(record, who, new)
    except ArbeError as error:
        comes_again = reserved.claim is not None and isinstance(error, Unavailable)
        if not comes_again:
            await _take_back(record, who, made, accepted, reserved)
        raise
    return CreatedThread(thread=thread, created=made.created, accepted=accepted)


async def find_or_make_dm(record: Record, who: Caller, agent_id: AgentId) -> Thread:
    """Return the oldest direct thread with an agent, made now if there is none.

    Promise: any number of callers at once get the same one; it wakes its agent by every entry.
    Raises: NotFound (the agent).
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        made = await threads.insert_dm(connection, house_id=who.house_id, agent_id=agent_id)
    if made.created:
        await narrate.birth(
            record, made.thread.id, by=narrate.author(who), name=made.thread.name
        )
    return made.thread


async def _new_thread(
    record: Record, who: Caller, draft: ThreadDraft, thread_id: ThreadId
) -> NewThread:
    settings = record.settings
    labels.metadata(draft.metadata, settings)
    parent_thread, parent_agent = _edges(await refs.parent(record, who, draft.parent))
    if draft.parent_dispatch_id is not None and parent_thread is None:
        raise Invalid(
            "`parentDispatchId` needs a thread as `parent`.",
            next_step="Send the thread whose dispatch it is as `parent`.",
        )
    environment_id = None
    if draft.environment is not None:
        environment_id = await refs.environment(record, who, draft.environment)
    return NewThread(
        id=thread_id,
        house_id=who.house_id,
        parent_thread_id=parent_thread,
        parent_agent_id=parent_agent,
        parent_dispatch_id=_dispatch_id(draft),
        name=None if draft.name is None else labels.name(draft.name, settings),
        tags=labels.tags(draft.tags, settings),
        environment_id=environment_id,
        config=labels.thread_config(draft.config, settings),
        metadata=draft.metadata,
        expires_at=expiry.expires_at(draft.expires_at, draft.expires_in),
        key=None if draft.key is None else labels.name(draft.key, settings, what="key"),
        when_busy=draft.when_busy,
    )


def _dispatch_id(draft: ThreadDraft) -> DispatchId | None:
    return None if draft.parent_dispatch_id is None else DispatchId(draft.parent_dispatch_id)


async def _require_open(record: Record, who: Caller, new: NewThread) -> None:
    """Return if the dispatch that a thread shall work for may still want its work.

    Raises: NotFound, Conflict (`parent_ended`).
    """
    if new.parent_thread_id is None or new.parent_dispatch_id is None:
        return
    parent = await dispatches.get(record, who, new.parent_thread_id, new.parent_dispatch_id)
    if parent.status in {"queued", "running", "waiting"} and parent.cancel_deadline_ms is None:
        return
    raise Conflict(
        "parent_ended",
        f"Dispatch {parent.id} has ended or was asked to end; nothing works for it any more.",
        next_step="Leave `parentDispatchId` out if the work is wanted all the same.",
        dispatchId=parent.id,
    )


async def _take_back(
    record: Record,
    who: Caller,
    made: KeyedThread,
    accepted: Accepted | None,
    reserved: NewId,
) -> None:
    """Undo what a refused call did.

    A thread with a key stays, its work ended: whoever asked for that key meanwhile was given
    it. So does one that a repeat of this call, which took it over, was answered.
    """
    is_ours = made.created and made.thread.key is None
    if is_ours and await _is_held(record, who, reserved):
        await delete_thread.delete_thread(record, who, made.thread.id)
    elif accepted is not None:
        for dispatch_id, _ in accepted.dispatches:
            await dispatches.cancel(record, who, made.thread.id, dispatch_id)


async def _is_held(record: Record, who: Caller, reserved: NewId) -> bool:
    if reserved.claim is None:
        return True
    try:
        async with engine.as_member(record.members, who.member_id) as connection:
            await idempotency.hold(connection, new=reserved)
    except Conflict:
        return False
    return True


def _edges(parent: Parent) -> tuple[ThreadId | None, AgentId | None]:
    match parent.kind:
        case "thread":
            return ThreadId(refs.row_id("thread", parent.id)), None
        case "agent":
            return None, AgentId(refs.row_id("agent", parent.id))
        case "house":
            return None, None


async def _insert(record: Record, who: Caller, new: NewThread, reserved: NewId) -> KeyedThread:
    async with engine.as_member(record.members, who.member_id) as connection:
        await idempotency.hold(connection, new=reserved)
        if reserved.may_exist:
            with suppress(NotFound):  # Gone is told: it was made, and deleted since
                made = await threads.get(connection, thread_id=ThreadId(reserved.id))
                return KeyedThread(thread=made, created=True)
        if new.key is not None:
            return await threads.insert_keyed(connection, new=new)
        return KeyedThread(thread=await threads.insert(connection, new=new), created=True)
