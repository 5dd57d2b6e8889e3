"""Entries: post one, read pages, follow."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final
from uuid import uuid4

from dispatch.client import following
from dispatch.client.connection import Connection, Json, present, segment
from dispatch.errors import NotFound

_AWAY_SECONDS: Final = 60.0
"""A follower outlasts a restart of the API and of what is behind it."""


class Entries:
    """What stands on threads' streams."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        ref: str,
        text: str,
        *,
        key: str | None = None,
        mentions: Sequence[str] = (),
        parts: Sequence[dict[str, Any]] = (),
        when_busy: str | None = None,
        if_status: Sequence[str] = (),
    ) -> Json:
        """Post a chat entry to a thread, or to an agent's DM, and wake who it concerns.

        Promise: repeats on a bad line make no second entry; with your own `key`, neither do
        repeats of yours.
        Args: ref: a thread or an agent (`@handle`, or its id). when_busy: `enqueue`, `reject`,
        `interrupt`, `rollback`, `steer` or `write`; None: as the thread or its house says.
        if_status: only while the thread's status is one of these.
        Returns: `{entry: {id, at}, threadId, dispatches: [{id, agentId}], duplicate?, muted?}`;
        `muted`: the `[{agentId, handle}]` it mentions though nothing wakes them there.
        Raises: Conflict, whose `reason` is `busy` (fields `agentId`, `dispatchId`) or
        `status_mismatch` (field `threadStatus`), among others.
        """
        body: Json = {"text": text} | present(
            {
                "mentions": list(mentions) or None,
                "parts": list(parts) or None,
                "whenBusy": when_busy,
                "ifStatus": list(if_status) or None,
            }
        )
        return await self._post_to_either(ref, body, key or str(uuid4()))

    async def withdraw(
        self,
        thread: str,
        entry_id: str,
        *,
        message: str | None = None,
        key: str | None = None,
    ) -> Json:
        """Let no turn of an entry start that has not started yet; the entry stays.

        Returns: `{entryId, withdrawn: [dispatch ids], delivered: [dispatch ids]}`.
        Raises: Conflict (`already_delivered`) when all had started or ended.
        """
        return await self._connection.call(
            "POST",
            f"/v1/threads/{segment(thread)}/entries/{segment(entry_id)}/withdraw",
            body=present({"message": message}),
            key=key,
        )

    async def list(
        self,
        thread: str,
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """Return one page in the stream's order: `{entries, nextCursor}`.

        Args: before: an entry id, or `end`: the last ones. The cursor goes on the same way.
        """
        return await self._connection.call(
            "GET",
            f"/v1/threads/{segment(thread)}/entries",
            query={"after": after, "before": before, "limit": limit},
        )

    def history(self, thread: str, *, after: str | None = None) -> AsyncGenerator[Json]:
        """Yield every entry that stands there now, oldest first.

        Raises: Gone, NotFound, Unavailable.
        """
        return self._stream(thread, after, _AWAY_SECONDS, stays=False)

    def follow(
        self, thread: str, *, after: str | None = None, patience_seconds: float = _AWAY_SECONDS
    ) -> AsyncGenerator[Json]:
        """Yield entries as they come, each once, across reconnects, until the thread is gone.

        Args: after: an entry id, `now`, or None for the beginning. patience_seconds: how long
        the API may be away at a stretch.
        Raises: Gone at once for a deleted thread; Unavailable when patience runs out.
        """
        return self._stream(thread, after, patience_seconds, stays=True)

    def _stream(
        self, thread: str, after: str | None, patience_seconds: float, *, stays: bool
    ) -> AsyncGenerator[Json]:
        return following.follow(
            self._connection,
            f"/v1/threads/{segment(thread)}/stream",
            after=after,
            patience_seconds=patience_seconds,
            stays=stays,
        )

    async def _post_to_either(self, ref: str, body: Json, key: str) -> Json:
        """Post to the thread of that reference, else to the agent of it."""
        if ref.startswith("@"):
            return await self._post("agents", ref, body, key)
        try:
            return await self._post("threads", ref, body, key)
        except NotFound as no_thread:
            if no_thread.fields.get("kind", "thread") != "thread":
                raise
            try:
                return await self._post("agents", ref, body, key)
            except NotFound as no_agent:
                if no_agent.fields.get("kind", "agent") != "agent":
                    raise
                raise no_thread from None

    async def _post(self, kind: str, ref: str, body: Json, key: str) -> Json:
        return await self._connection.call(
            "POST", f"/v1/{kind}/{segment(ref)}/entries", body=body, key=key
        )
