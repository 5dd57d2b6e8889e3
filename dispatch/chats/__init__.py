"""Chats: which of an agent's chats belongs to which state of its framework.

`ChatManager` over a storage in Redis, Postgres or MongoDB; `open_storage` gives the one that
`ARBE_CHATS_URL` names.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dispatch.chats.errors import ChatAlreadyClosed, ChatExists, ChatNotFound
from dispatch.chats.manager import ChatManager
from dispatch.chats.opening import open_storage
from dispatch.chats.postgres import PostgreSQLChatStorage
from dispatch.chats.redis import RedisChatStorage
from dispatch.chats.storage import ChatStorage

if TYPE_CHECKING:
    from dispatch.chats.mongo import MongoChatStorage

__all__ = [
    "ChatAlreadyClosed",
    "ChatExists",
    "ChatManager",
    "ChatNotFound",
    "ChatStorage",
    "MongoChatStorage",
    "PostgreSQLChatStorage",
    "RedisChatStorage",
    "open_storage",
]


def __getattr__(name: str) -> Any:
    """Import MongoDB's storage at its first use: its driver is an extra (`mongo`)."""
    if name != "MongoChatStorage":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("dispatch.chats.mongo").MongoChatStorage
