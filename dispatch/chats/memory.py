"""Chats in this process's RAM: for tests and trials. They are lost with the process.

Every method runs without awaiting anything, so it is atomic on its loop. Not guaranteed: use
from several OS threads.
"""

import dataclasses
from datetime import datetime, timedelta

import msgspec

from dispatch import clock
from dispatch.chats.chat import RETENTION_SECONDS, Chat, Metadata, Page


@dataclasses.dataclass
class MemoryChatStorage:
    """The storage of a ChatManager that was given none."""

    _chats: dict[str, Chat] = dataclasses.field(default_factory=dict[str, Chat])

    async def insert(
        self, chat_id: str, *, target_agent: str, metadata: Metadata
    ) -> Chat | None:
        """See ChatStorage."""
        if await self.find(chat_id) is not None:
            return None
        now = clock.now()
        self._chats[chat_id] = Chat(
            chat_id=chat_id,
            status="ACTIVE",
            target_agent=target_agent,
            metadata=metadata,
            created_at=now,
            updated_at=now,
        )
        return _copied(self._chats[chat_id])

    async def find(self, chat_id: str) -> Chat | None:
        """See ChatStorage."""
        chat = self._chats.get(chat_id)
        return None if chat is None or _is_over(chat, clock.now()) else _copied(chat)

    async def merge(self, chat_id: str, *, metadata: Metadata) -> Chat | None:
        """See ChatStorage."""
        chat = self._chats.get(chat_id)
        if chat is None or chat.status != "ACTIVE":
            return None
        return self._put(chat, metadata=chat.metadata | metadata, updated_at=clock.now())

    async def close(
        self, chat_id: str, *, reason: str | None, ttl_seconds: float
    ) -> Chat | None:
        """See ChatStorage."""
        chat = self._chats.get(chat_id)
        if chat is None or chat.status != "ACTIVE":
            return None
        now = clock.now()
        return self._put(
            chat,
            status="CLOSED",
            reason=reason,
            updated_at=now,
            closed_at=now,
            expires_at=now + timedelta(seconds=ttl_seconds),
        )

    async def list_active(self, *, prefix: str, after_id: str, limit: int) -> Page:
        """See ChatStorage."""
        found = sorted(
            chat_id
            for chat_id, chat in self._chats.items()
            if chat.status == "ACTIVE" and chat_id.startswith(prefix) and chat_id > after_id
        )[:limit]
        chats = [_copied(self._chats[each]) for each in found]
        return Page(chats, found[-1] if len(found) == limit else None)

    async def delete_closed(self, *, max_age_seconds: float, limit: int) -> int:
        """See ChatStorage."""
        over = self._over(max_age_seconds)[:limit]
        for chat_id in over:
            del self._chats[chat_id]
        return len(over)

    async def count_closed(self, *, max_age_seconds: float) -> int:
        """See ChatStorage."""
        return len(self._over(max_age_seconds))

    def _put(self, chat: Chat, **changes: object) -> Chat:
        changed = msgspec.structs.replace(chat, **changes)
        self._chats[chat.chat_id] = changed
        return _copied(changed)

    def _over(self, max_age_seconds: float) -> list[str]:
        now = clock.now()
        early = now + timedelta(seconds=max(0.0, RETENTION_SECONDS - max_age_seconds))
        return [
            chat_id
            for chat_id, chat in self._chats.items()
            if _is_over(chat, early if _has_usual_retention(chat) else now)
        ]


def _is_over(chat: Chat, now: datetime) -> bool:
    return chat.expires_at is not None and chat.expires_at <= now


def _has_usual_retention(chat: Chat) -> bool:
    kept = None if chat.closed_at is None else chat.closed_at + _USUALLY
    return chat.expires_at == kept


_USUALLY = timedelta(seconds=RETENTION_SECONDS)


def _copied(chat: Chat) -> Chat:
    """Return a chat that shares no metadata with the storage's own."""
    return msgspec.convert(msgspec.to_builtins(chat), Chat)
