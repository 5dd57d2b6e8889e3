"""A chat's record: which agent it is with, and what its server notes on it. No messages."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

Metadata = dict[str, Any]
ChatStatus = Literal["ACTIVE", "CLOSED"]

RETENTION_SECONDS: Final = 86_400.0
"""How long a closed chat is kept, unless its close said otherwise."""


class Chat(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "chat_id": "chatId",
        "target_agent": "targetAgent",
        "created_at": "createdAt",
        "updated_at": "updatedAt",
        "closed_at": "closedAt",
        "expires_at": "expiresAt",
    },
):
    """One chat as it stands in a storage; its wire form is what ChatManager answers.

    A closed one is there until `expires_at`, then it does not exist any more, whether or not
    the storage has removed it yet.
    """

    chat_id: str
    status: ChatStatus
    target_agent: str
    metadata: Metadata
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None
    expires_at: datetime | None = None
    reason: str | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of active chats; `after_id` is where the next begins, None at the end.

    Values of a storage that are no chats are left out, so a page may hold fewer than asked for.
    """

    chats: list[Chat]
    after_id: str | None
