"""ARC's chats as their members and the sweep see them; `dispatch.chats` is the record of them.

A stored id is `<member id>/<chat id>`: a chat belongs to the member who started it, and no
other learns of it.
"""

from collections import Counter
from typing import Final

import msgspec

from dispatch.chats.chat import RETENTION_SECONDS, Chat
from dispatch.chats.storage import ChatStorage
from dispatch.config import Settings
from dispatch.models.houses import Caller
from dispatch.models.pages import Page
from dispatch.operations import paging
from dispatch.operations.record import Record

_MAX_BATCHES: Final = 50
"""Bounds one pass; what is left is removed in the next."""


def stored_id(who: Caller, chat_id: str) -> str:
    """Return under which id a member's chat is stored."""
    return f"{who.member_id}/{chat_id}"


async def list_active(
    record: Record, who: Caller, *, cursor: str | None = None, limit: int | None = None
) -> Page[Chat]:
    """Return a page of the caller's own active chats, by id. Raises: Invalid; Unavailable."""
    prefix = stored_id(who, "")
    size = paging.size(limit, record.settings)
    found = await record.chats.storage.list_active(
        prefix=prefix, after_id=prefix + _place(cursor), limit=size
    )
    own = [
        msgspec.structs.replace(each, chat_id=each.chat_id.removeprefix(prefix))
        for each in found.chats
    ]
    next_id = found.after_id
    return Page(
        tuple(own), None if next_id is None else next_id.removeprefix(prefix).encode().hex()
    )


async def sweep(
    storage: ChatStorage, settings: Settings, *, dry_run: bool = False
) -> Counter[str]:
    """Remove closed chats whose time is over, in batches of `chat_sweep_batch`.

    Promise: safe twice at once and when killed; a batch is one short transaction.
    Returns: count `expired`: those removed, in a dry run those that would be. Redis removes
    them itself and MongoDB nearly always does: they are not counted.
    Raises: Unavailable.
    """
    if dry_run:
        return Counter(expired=await storage.count_closed(max_age_seconds=RETENTION_SECONDS))
    counts: Counter[str] = Counter()
    for _ in range(_MAX_BATCHES):
        removed = await storage.delete_closed(
            max_age_seconds=RETENTION_SECONDS, limit=settings.chat_sweep_batch
        )
        counts["expired"] += removed
        if removed < settings.chat_sweep_batch:
            break
    return counts


def _place(cursor: str | None) -> str:
    try:
        return bytes.fromhex(cursor or "").decode()
    except ValueError as error:
        raise paging.bad_cursor() from error
