"""What every storage of chats promises; one behaviour suite holds all of them to it."""

from typing import Final, Protocol

from dispatch.chats.chat import Chat, Metadata, Page

PAGE_SIZE: Final = 500
"""Chats of one listing command: bounds what the storage is kept busy with at once."""


class ChatStorage(Protocol):
    """Where chats are. Each method is one atomic step of the storage, by the storage's clock.

    Promise: a closed chat past its `expires_at` is never returned or counted as there. What is
    not possible is answered with None, never half done.
    Raises: Unavailable; then a write may have been done all the same: `find` tells.
    """

    async def insert(
        self, chat_id: str, *, target_agent: str, metadata: Metadata
    ) -> Chat | None:
        """Make an active chat; None if the id is taken, by a closed chat too."""
        ...

    async def find(self, chat_id: str) -> Chat | None:
        """Return the chat as it is now."""
        ...

    async def merge(self, chat_id: str, *, metadata: Metadata) -> Chat | None:
        """Set these keys of the metadata and leave the others; None if it is not active."""
        ...

    async def close(
        self, chat_id: str, *, reason: str | None, ttl_seconds: float
    ) -> Chat | None:
        """Close it and let it expire after `ttl_seconds`; None if it is not active."""
        ...

    async def list_active(self, *, prefix: str, after_id: str, limit: int) -> Page:
        """Return active chats whose ids begin with `prefix`, by id, beyond `after_id`."""
        ...

    async def delete_closed(self, *, max_age_seconds: float, limit: int) -> int:
        """Remove up to `limit` closed chats; return how many were removed.

        Those past their `expires_at`, and those with the usual retention that were closed at
        least `max_age_seconds` ago. A chat closed with another `ttl_seconds` keeps its time.
        """
        ...

    async def count_closed(self, *, max_age_seconds: float) -> int:
        """Count what `delete_closed` would remove."""
        ...
