"""ChatManager: which chat belongs to which state of an agent's framework.

It stores `chatId, status, targetAgent, metadata, createdAt, updatedAt`, and of a closed chat
`closedAt, expiresAt, reason`. It stores no messages and no conversation state.

Nothing is kept in RAM beside the storage: a copy would be stale as soon as another process
closed the chat, or removed it and made it anew. Every call is one command to the storage,
which decides; so any number of managers in any number of processes agree.

Not guaranteed: separation by `agent_id`. Managers over one storage share its chats; agents
that must not see each other's get a table, collection or key prefix each.
"""

import json
import math
import re
import secrets
from typing import Any, Final, cast

import msgspec

from dispatch.chats.chat import RETENTION_SECONDS, Chat, Metadata
from dispatch.chats.errors import ChatAlreadyClosed, ChatExists, ChatNotFound
from dispatch.chats.memory import MemoryChatStorage
from dispatch.chats.storage import PAGE_SIZE, ChatStorage
from dispatch.errors import Invalid

MAX_ID_CHARACTERS: Final = 300
MAX_REASON_CHARACTERS: Final = 2000
MAX_METADATA_BYTES: Final = 64 * 1024
"""JSON of one call: metadata links to a framework's state, it does not hold it."""
MAX_TTL_SECONDS: Final = 10 * 365 * 86_400.0
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
"""NUL, which Postgres has no room for, and lone surrogates, which are no UTF-8."""
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class ChatManager:
    """The chats that an agent's server has with those who call it."""

    def __init__(self, agent_id: str, storage: ChatStorage | None = None) -> None:
        """Args: storage: None keeps the chats in RAM; they are lost with the process."""
        self.agent_id = agent_id
        self.storage: ChatStorage = MemoryChatStorage() if storage is None else storage

    async def create_chat(
        self, target_agent: str, chat_id: str | None = None, metadata: Metadata | None = None
    ) -> dict[str, Any]:
        """Make an active chat with `target_agent`, the agent that asked for it.

        Raises: ChatExists, when the id is taken, also by a closed chat that is still kept;
        Invalid; Unavailable.
        """
        chosen = f"chat-{secrets.token_hex(16)}" if chat_id is None else chat_id
        _refuse_text("chatId", chosen, MAX_ID_CHARACTERS)
        _refuse_text("targetAgent", target_agent, MAX_ID_CHARACTERS)
        chat = await self.storage.insert(
            chosen,
            target_agent=target_agent,
            metadata=_as_json({} if metadata is None else metadata),
        )
        if chat is None:
            raise ChatExists(chosen)
        return _answer(chat)

    async def get_chat(self, chat_id: str) -> dict[str, Any]:
        """Return the chat as it is now, closed or not. Raises: ChatNotFound; Unavailable."""
        _refuse_unknown(chat_id)
        chat = await self.storage.find(chat_id)
        if chat is None:
            raise ChatNotFound(chat_id)
        return _answer(chat)

    async def update_metadata(self, chat_id: str, metadata: Metadata) -> dict[str, Any]:
        """Set these keys of the chat's metadata; the others stay.

        Promise: merged inside the storage, so concurrent updates of several processes all hold.
        Raises: ChatNotFound; ChatAlreadyClosed; Invalid; Unavailable.
        """
        _refuse_unknown(chat_id)
        chat = await self.storage.merge(chat_id, metadata=_as_json(metadata))
        return _answer(chat) if chat is not None else await self._refuse(chat_id)

    async def close_chat(
        self, chat_id: str, reason: str | None = None, ttl_seconds: float = RETENTION_SECONDS
    ) -> dict[str, Any]:
        """Close the chat for good and keep it for `ttl_seconds`.

        Promise: of any number of callers exactly one closes it.
        Raises: ChatAlreadyClosed, for every other; ChatNotFound; Invalid; Unavailable.
        """
        if reason is not None:
            _refuse_text("reason", reason, MAX_REASON_CHARACTERS, min_characters=0)
        _refuse_seconds("ttl_seconds", ttl_seconds)
        _refuse_unknown(chat_id)
        chat = await self.storage.close(chat_id, reason=reason, ttl_seconds=float(ttl_seconds))
        return _answer(chat) if chat is not None else await self._refuse(chat_id)

    async def get_active_chats(self, *, prefix: str = "") -> list[dict[str, Any]]:
        """Return every active chat whose id begins with `prefix`, by id, read in pages."""
        found: list[dict[str, Any]] = []
        after_id: str | None = ""
        while after_id is not None:
            page = await self.storage.list_active(
                prefix=prefix, after_id=after_id, limit=PAGE_SIZE
            )
            found += map(_answer, page.chats)
            after_id = page.after_id
        return found

    async def cleanup_old_chats(self, max_age_seconds: float = RETENTION_SECONDS) -> int:
        """Remove closed chats whose time is over; return how many this call removed.

        `max_age_seconds` below the usual 24 h takes those that were closed with it sooner;
        a chat closed with another `ttl_seconds` keeps its own time, and active ones stay.
        Redis and MongoDB remove by themselves what is past its time: here that counts 0.
        """
        _refuse_seconds("max_age_seconds", max_age_seconds)
        count, removed = 0, PAGE_SIZE
        while removed == PAGE_SIZE:
            removed = await self.storage.delete_closed(
                max_age_seconds=float(max_age_seconds), limit=PAGE_SIZE
            )
            count += removed
        return count

    async def _refuse(self, chat_id: str) -> dict[str, Any]:
        """Say why a chat that is not active could not be changed."""
        chat = await self.storage.find(chat_id)
        # An active one by now was made after we asked: then there was none.
        if chat is None or chat.status == "ACTIVE":
            raise ChatNotFound(chat_id)
        raise ChatAlreadyClosed(chat_id)


def _answer(chat: Chat) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.to_builtins(chat)
    return answer


def _as_json(metadata: Metadata) -> Metadata:
    """Return what is left of it on any storage. Raises: Invalid for what JSON cannot carry."""
    try:
        encoded = msgspec.json.encode(metadata)
        decoded = json.loads(encoded, parse_int=_whole)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"The metadata is no JSON: {error}.") from error
    if not isinstance(decoded, dict):
        raise Invalid("The metadata is no JSON object.", next_step="Give names and values.")
    if len(encoded) > MAX_METADATA_BYTES:
        raise Invalid(
            f"The metadata is longer than {MAX_METADATA_BYTES} bytes of JSON.",
            next_step="Keep state in the framework's store, and its id here.",
        )
    if _NUL.search(encoded):
        raise Invalid("The metadata holds a NUL character.", next_step="Leave it out.")
    return cast("Metadata", decoded)


def _whole(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**63:
        raise ValueError("whole numbers have 64 bits at most")
    return number


def _refuse_text(name: str, text: str, max_characters: int, *, min_characters: int = 1) -> None:
    if not min_characters <= len(text) <= max_characters:
        raise Invalid(
            f"{name} must have {min_characters} to {max_characters} characters,"
            f" not {len(text)}."
        )
    if _UNSTORABLE.search(text):
        raise Invalid(f"{name} holds a NUL or half a character, which cannot be stored.")


def _refuse_unknown(chat_id: str) -> None:
    """Answer for an id that no chat can have. Raises: ChatNotFound."""
    if not 0 < len(chat_id) <= MAX_ID_CHARACTERS or _UNSTORABLE.search(chat_id):
        raise ChatNotFound(chat_id[:MAX_ID_CHARACTERS])


def _refuse_seconds(name: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and 0 <= seconds <= MAX_TTL_SECONDS):
        raise Invalid(f"{name} must be 0 to {MAX_TTL_SECONDS:.0f} seconds, not {seconds}.")
