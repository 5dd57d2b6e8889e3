"""Threads by key, their statistics, and their end."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from dispatch.client.connection import Connection, Json, present, segment

_DAY_SECONDS: Final = 24 * 3600.0


class ThreadLife:
    """What a thread's life takes beside its entries; `client.threads` has it all."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get_or_create(
        self,
        key: str,
        *,
        parent: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
        expires_at: datetime | int | None = None,
        expires_in: float | None = None,
    ) -> Json:
        """Return the house's thread with this key, made now if there is none.

        Promise: however many ask at once, from however many processes, get the same one. One
        that has expired is not handed out: the key moves to a fresh thread. What is there is
        returned as it is; all but `key` is for the thread that is made.
        Args: parent: an agent (a DM), a thread (a sub-job), or None: the house. expires_in:
        seconds.
        """
        body = {
            "key": key,
            "parent": parent,
            "name": name,
            "tags": list(tags) or None,
            "metadata": metadata,
            **end(expires_at, expires_in),
        }
        made = await self._connection.call("POST", "/v1/threads", body=present(body))
        thread: Json = made["thread"]
        return thread

    async def for_user(self, user_id: str, *, parent: str | None = None) -> Json:
        """Return the one thread of a user, made at the first call."""
        return await self.get_or_create(
            _key(user=user_id), parent=parent, metadata={"user_id": user_id}
        )

    async def for_session(
        self,
        user_id: str,
        session_id: str,
        *,
        expires_in: float = _DAY_SECONDS,
        parent: str | None = None,
    ) -> Json:
        """Return a session's thread; after `expires_in` seconds the next call makes a new one.

        The end is counted from the thread's birth; `update` puts it off.
        """
        return await self.get_or_create(
            _key(user=user_id, session=session_id),
            parent=parent,
            metadata={"user_id": user_id, "session_id": session_id},
            expires_in=expires_in,
        )

    async def for_topic(self, user_id: str, topic: str, *, parent: str | None = None) -> Json:
        """Return the one thread of a user about a topic."""
        return await self.get_or_create(
            _key(user=user_id, topic=topic),
            parent=parent,
            metadata={"user_id": user_id, "topic": topic},
        )

    async def stats(self, ref: str) -> Json:
        """Return what a thread holds and how it stands.

        Returns: `{threadId, createdAt, state, hasActiveRun, messageCount, runCount, entryCount,
        lastRun?, metadata, usage, expiresAt?}`.
        """
        return await self._connection.call("GET", f"/v1/threads/{segment(ref)}/stats")

    async def has_active_run(self, ref: str) -> bool:
        """Tell whether a turn of the thread is queued, running or being cancelled."""
        return bool((await self.stats(ref))["hasActiveRun"])

    async def cleanup(  # noqa: PLR0913 - which threads, one each
        self,
        older_than: float | None = None,
        *,
        expired: bool = False,
        tag: str | None = None,
        key_prefix: str | None = None,
        status: str | None = None,
        running: bool = False,
        pinned: bool = False,
        dry_run: bool = False,
        on_batch: Callable[[Json], None] | None = None,
    ) -> Json:
        """Delete the house's threads that fit, each with all below it, batch by batch.

        Promise: repeated after it broke off, it goes on. Never the primary thread; running and
        pinned ones only if you say so.
        Args: older_than: seconds without a word. on_batch: hears the sums between two batches.
        Returns: `{deleted, removable, running, recent, pinned, changed, unavailable,
        threadIds}` of all batches; `removable` and the ids are what a dry run found.
        """
        body = present(
            {
                "olderThan": older_than,
                "expired": expired,
                "tag": tag,
                "keyPrefix": key_prefix,
                "status": status,
                "running": running,
                "pinned": pinned,
                "dryRun": dry_run,
            }
        )
        total: Json = {}
        cursor: str | None = None
        while True:
            batch = await self._connection.call(
                "POST", "/v1/threads/cleanup", body=body | present({"cursor": cursor})
            )
            cursor = batch.pop("nextCursor", None)
            total = {name: total[name] + of if total else of for name, of in batch.items()}
            if cursor is None:
                return total
            if on_batch is not None:
                on_batch(total)


def end(at: datetime | int | None, in_seconds: float | None) -> Json:
    """Return the fields that say when a thread's time is over."""
    moment = at.isoformat() if isinstance(at, datetime) else at
    return {"expiresAt": moment, "expiresIn": in_seconds}


def _key(**parts: str) -> str:
    """Return `user:17:topic:billing`; no part can be taken for another's end."""
    return ":".join(
        f"{name}:{part.replace('%', '%25').replace(':', '%3A')}" for name, part in parts.items()
    )
