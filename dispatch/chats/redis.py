"""Chats in Redis: a hash each, that Redis itself removes when a closed chat's time is over.

Beside them an index of the active ids, which a listing pages through, and one of the closed
ids, so that a cleanup may take those with the usual retention sooner. All keys share one hash
tag, so a cluster keeps them together; every method is one Lua script or one command.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError, ResponseError

from dispatch import log
from dispatch.chats.chat import RETENTION_SECONDS, Chat, Metadata, Page
from dispatch.errors import Invalid, Unavailable

_log = log.get(__name__)
_METADATA: Final = "metadata:"
_USUAL_MILLISECONDS: Final = int(RETENTION_SECONDS * 1000)


class RedisChatStorage:
    """Chats of one Redis. The caller owns the `redis.asyncio` client and closes it."""

    def __init__(self, client: Any, key_prefix: str = "{arc}") -> None:
        """Args: key_prefix: keys are `<key_prefix>:chat:<id>`; braces keep them on one node."""
        self._client = client
        self._prefix = f"{key_prefix}:chat:"
        self._active = f"{key_prefix}:chats:active"
        self._closed = f"{key_prefix}:chats:closed"
        folder = resources.files("dispatch.chats").joinpath("scripts")
        self._scripts: dict[str, Any] = {
            name: client.register_script(folder.joinpath(f"{name}.lua").read_text("utf-8"))
            for name in ("insert", "merge", "close", "list", "delete_closed")
        }

    async def insert(
        self, chat_id: str, *, target_agent: str, metadata: Metadata
    ) -> Chat | None:
        """See ChatStorage."""
        keys = [self._prefix + chat_id, self._active, self._closed]
        answer = await self._run("insert", keys, [chat_id, target_agent, *_pairs(metadata)])
        return _changed(chat_id, answer)

    async def find(self, chat_id: str) -> Chat | None:
        """See ChatStorage. Raises: Invalid, when the key holds something else than a chat."""
        async with _translated():
            found = await self._client.hgetall(self._prefix + chat_id)
        return _chat(chat_id, found) if found else None

    async def merge(self, chat_id: str, *, metadata: Metadata) -> Chat | None:
        """See ChatStorage."""
        answer = await self._run("merge", [self._prefix + chat_id], _pairs(metadata))
        return _changed(chat_id, answer)

    async def close(
        self, chat_id: str, *, reason: str | None, ttl_seconds: float
    ) -> Chat | None:
        """See ChatStorage."""
        keys = [self._prefix + chat_id, self._active, self._closed]
        arguments = [chat_id, int(ttl_seconds * 1000), _USUAL_MILLISECONDS]
        more = [] if reason is None else [reason]
        return _changed(chat_id, await self._run("close", keys, [*arguments, *more]))

    async def list_active(self, *, prefix: str, after_id: str, limit: int) -> Page:
        """See ChatStorage."""
        is_beyond = after_id != "" and after_id >= prefix
        start = b"(" + after_id.encode() if is_beyond else b"[" + prefix.encode()
        arguments = [self._prefix, start, b"(" + prefix.encode() + b"\xff", limit]
        answer = await self._run("list", [self._active], arguments)
        ids = [_text(each) for each in answer[::2]]
        chats = [_readable(*each) for each in zip(ids, answer[1::2], strict=True)]
        return Page(
            [each for each in chats if each is not None],
            ids[-1] if len(ids) == limit else None,
        )

    async def delete_closed(self, *, max_age_seconds: float, limit: int) -> int:
        """See ChatStorage. Those past their time Redis has removed already."""
        removed, is_last = 0, max_age_seconds >= RETENTION_SECONDS
        while removed < limit and not is_last:
            wanted = limit - removed
            arguments = [self._prefix, int(max_age_seconds * 1000), wanted]
            looked, done = await self._run("delete_closed", [self._closed], arguments)
            removed += done
            is_last = looked < wanted
        return removed

    async def count_closed(self, *, max_age_seconds: float) -> int:
        """See ChatStorage. Not guaranteed: a key that was removed by hand counts too."""
        async with _translated():
            seconds, microseconds = await self._client.time()
            now = seconds * 1000 + microseconds // 1000
            upto = now - int(max_age_seconds * 1000)
            oldest = now - _USUAL_MILLISECONDS + 1
            return int(await self._client.zcount(self._closed, oldest, upto))

    async def _run(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        async with _translated():
            answer: list[Any] = await self._scripts[name](keys=keys, args=arguments)
            return answer


@asynccontextmanager
async def _translated() -> AsyncGenerator[None]:
    try:
        yield
    except ResponseError as error:
        if "WRONGTYPE" in str(error):
            raise _broken("another kind of value") from error
        if type(error) is ResponseError:  # a mistake of ours; its kinds are the server's state
            raise
        raise Unavailable("Redis", cause=type(error).__name__) from error
    except (RedisError, OSError) as error:
        raise Unavailable("Redis", cause=type(error).__name__) from error


def _pairs(metadata: Metadata) -> list[Any]:
    encode = msgspec.json.encode
    return [part for key, value in metadata.items() for part in (key, encode(value))]


def _changed(chat_id: str, answer: list[Any]) -> Chat | None:
    return _chat(chat_id, _fields(answer[1])) if _text(answer[0]) == "OK" else None


def _readable(chat_id: str, values: list[Any]) -> Chat | None:
    """Return an active chat, or None for what is none: one broken value hides no other."""
    try:
        return _chat(chat_id, _fields(values))
    except Invalid as error:
        _log.warning("chat.unreadable", chat_id=chat_id, cause=error.what)
        return None


def _chat(chat_id: str, values: dict[Any, Any]) -> Chat:
    fields = {_text(key): value for key, value in values.items()}
    metadata = [key for key in fields if key.startswith(_METADATA)]
    chat: dict[str, Any] = {"chatId": chat_id}
    try:
        chat |= {name: _text(fields[name]) for name in _TEXTS if name in fields}
        chat |= {name: _moment(fields[name]) for name in _MOMENTS if name in fields}
        chat["metadata"] = {
            key.removeprefix(_METADATA): msgspec.json.decode(fields[key]) for key in metadata
        }
        return msgspec.convert(chat, Chat)
    except (ValueError, OverflowError) as error:
        raise _broken(str(error)) from error


_TEXTS: Final = ("status", "targetAgent", "reason")
_MOMENTS: Final = ("createdAt", "updatedAt", "closedAt", "expiresAt")


def _broken(cause: str) -> Invalid:
    return Invalid(
        f"What Redis holds of this chat is none: {cause}.",
        next_step="Delete that key, or give the storage a key_prefix of its own.",
    )


def _fields(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _moment(milliseconds: Any) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _text(value: Any) -> str:
    """Read what a client with or without `decode_responses` returns."""
    return value.decode() if isinstance(value, bytes) else str(value)
