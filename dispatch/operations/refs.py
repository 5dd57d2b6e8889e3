"""References as people type them, turned into ids within the caller's house.

A whole id of a thread is taken as it is: whatever comes next asks row level security anyway, so
the way of an accepted entry needs no look-up here.
"""

import uuid
from collections.abc import Sequence
from typing import Final

from dispatch.errors import Gone, NotFound
from dispatch.ids import AgentId, EnvironmentId, ThreadId
from dispatch.models.houses import Caller
from dispatch.models.refs import ALL_KINDS, Ref, RefKind
from dispatch.models.threads import Parent
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine
from dispatch.stores.postgres import refs as stored

_WHOLE: Final = 36
"""Characters of a UUID with its dashes."""


async def resolve(
    record: Record, who: Caller, text: str, kinds: Sequence[RefKind] = ALL_KINDS
) -> Ref:
    """Tell what a text names among these kinds.

    Raises: Invalid, AmbiguousRef, NotFound (also for another house's), Gone.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        return await stored.resolve(connection, house_id=who.house_id, text=text, kinds=kinds)


async def thread(record: Record, who: Caller, text: str) -> ThreadId:
    """Return the id of the thread a text names; a whole id may name nothing at all."""
    whole = _whole_id(text)
    if whole is not None:
        return ThreadId(whole)
    return ThreadId((await resolve(record, who, text, ("thread",))).id)


async def thread_even_deleted(record: Record, who: Caller, text: str) -> ThreadId:
    """Return the id of a thread that may be gone already, so that deleting again converges."""
    try:
        return await thread(record, who, text)
    except Gone as gone:
        return ThreadId(uuid.UUID(str(gone.fields["threadId"])))


async def agent(record: Record, who: Caller, text: str) -> AgentId:
    """Return the id of the agent a text names."""
    return AgentId((await resolve(record, who, text, ("agent",))).id)


async def environment(record: Record, who: Caller, text: str) -> EnvironmentId:
    """Return the id of the environment a text names."""
    return EnvironmentId((await resolve(record, who, text, ("environment",))).id)


async def parent(record: Record, who: Caller, text: str | None) -> Parent:
    """Return where a thread shall live: `house`, `me` or nothing mean the caller's house."""
    if text is None or text in {"house", "me"}:
        return Parent("house", str(who.house_id))
    found = await resolve(record, who, text, ("thread", "agent", "house"))
    match found.kind:
        case "thread" | "agent" | "house":
            return Parent(found.kind, str(found.id))
        case "environment":
            raise NotFound("thread", text)


def row_id(kind: str, text: str) -> uuid.UUID:
    """Read a whole id in a path.

    Raises: NotFound, since a text that is no id names nothing.
    """
    found = _whole_id(text)
    if found is None:
        raise NotFound(kind, text[:80])
    return found


def _whole_id(text: str) -> uuid.UUID | None:
    if len(text) != _WHOLE:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
