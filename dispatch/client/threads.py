"""Threads: their rows, their dispatches, and the verbs that look after them."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

from dispatch.client.connection import Json, present, segment
from dispatch.client.lifecycle import ThreadLife, end


class Threads(ThreadLife):
    """The house's threads."""

    async def create(  # noqa: PLR0913 - what a thread is born with, one each
        self,
        parent: str | None = None,
        *,
        parent_dispatch_id: str | None = None,
        environment: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        key: str | None = None,
        config: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        expires_at: datetime | int | None = None,
        expires_in: float | None = None,
        message: str | None = None,
        when_busy: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Make a thread, or return the one that has this `key`.

        Promise: repeats on a bad line make no second thread and no second message; with your
        own `idempotency_key`, neither do repeats of yours. Without `message` nothing is
        dispatched.
        Args: parent: a house (None: the caller's), an agent (a DM) or a thread (a sub-job).
        parent_dispatch_id: the parent thread's dispatch it works for, to be cancelled with it.
        when_busy: for entries that do not say themselves (`docs/busy.md`). expires_at: Unix ms
        or an aware datetime; expires_in: seconds (`docs/lifecycle.md`).
        Returns: `{thread, entry?, dispatches?}`.
        """
        body = {
            "parent": parent,
            "parentDispatchId": parent_dispatch_id,
            "environment": environment,
            "name": name,
            "tags": list(tags) or None,
            "key": key,
            "config": config,
            "metadata": metadata,
            "message": message,
            "whenBusy": when_busy,
            **end(expires_at, expires_in),
        }
        return await self._connection.call(
            "POST",
            "/v1/threads",
            body=present(body),
            key=idempotency_key,
        )

    async def list(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        parent: str | None = None,
        pinned: bool | None = None,
        search: str | None = None,
        key_prefix: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Json:
        """Return one page: `{threads, nextCursor}`; ask on with `cursor` until that is null."""
        query = {
            "status": status,
            "tag": tag,
            "parent": parent,
            "pinned": pinned,
            "q": search,
            "keyPrefix": key_prefix,
            "limit": limit,
            "cursor": cursor,
        }
        return await self._connection.call("GET", "/v1/threads", query=query)

    async def get(self, ref: str) -> Json:
        """Return one thread; a stuck one is repaired by being read."""
        return await self._connection.call("GET", _path(ref))

    async def update(
        self,
        ref: str,
        changes: Json,
        *,
        if_status: Sequence[str] = (),
        key: str | None = None,
    ) -> Json:
        """Change `name`, `pinned`, `tags`, `whenBusy`, `config`, `metadata` or `expiresAt`.

        What is not named stays; `expiresIn` (seconds) may stand for `expiresAt`. `config` is
        replaced whole; `metadata` is a merge patch (RFC 7396): null removes a key.
        Args: if_status: only while the thread's status is one of these; here and below.
        Returns: the thread.
        Raises: Conflict (`status_mismatch`, field `threadStatus`), among others.
        """
        body = {**changes, **_guard(if_status)}
        return await self._connection.call("PATCH", _path(ref), body=body, key=key)

    async def delete(
        self, ref: str, *, if_status: Sequence[str] = (), key: str | None = None
    ) -> None:
        """Delete the thread, what hangs below it, and its stream. Again is harmless."""
        await self._connection.call("DELETE", _path(ref), query=_guard(if_status), key=key)

    async def diagnose(self, ref: str) -> Json:
        """Return how far the last dispatch came, and what is wrong if something is."""
        return await self._connection.call("GET", f"{_path(ref)}/diagnose")

    async def reconcile(self, ref: str, *, key: str | None = None) -> Json:
        """Repair the thread now. Returns: `{before, after, changed}`."""
        return await self._connection.call("POST", f"{_path(ref)}/reconcile", key=key)

    async def prune(self, *, dry_run: bool = False, key: str | None = None) -> Json:
        """Repair or collect every stranded thread of the house. Returns counts."""
        return await self._connection.call(
            "POST", "/v1/threads/prune", body={"dryRun": dry_run}, key=key
        )

    async def archive(
        self, ref: str, *, roll_over: bool = False, key: str | None = None
    ) -> Json:
        """Move the thread's entries out of Redis; it reads as before.

        Args: roll_over: go on in a new thread, which takes its key and labels along.
        Returns: `{thread, entries, segments, nextThread?}`.
        Raises: Conflict (`thread_running`, `primary_thread`), among others.
        """
        return await self._connection.call(
            "POST", f"{_path(ref)}/archive", body={"rollOver": roll_over}, key=key
        )

    async def archive_due(self, *, dry_run: bool = False, key: str | None = None) -> Json:
        """Archive every thread of the house that is too long or old. Returns counts."""
        return await self._connection.call(
            "POST", "/v1/threads/archive", body={"dryRun": dry_run}, key=key
        )

    async def restore(self, ref: str, *, key: str | None = None) -> Json:
        """Bring the thread's archived entries back into Redis; it takes entries again.

        Returns: `{thread, entries}`.
        """
        return await self._connection.call("POST", f"{_path(ref)}/restore", key=key)

    async def output(self, ref: str, output_ref: str) -> AsyncGenerator[bytes]:
        """Hand out the whole output of a command; `output_ref` as its tool result says.

        Raises: NotFound; Unavailable, also on a line that breaks in the middle.
        """
        path = f"{_path(ref)}/outputs/{segment(output_ref)}"
        async with self._connection.live(path, {}) as pieces:
            async for piece in pieces:
                yield piece

    async def dispatch(self, ref: str, dispatch_id: str) -> Json:
        """Return one dispatch."""
        return await self._connection.call(
            "GET", f"{_path(ref)}/dispatches/{segment(dispatch_id)}"
        )

    async def cancel(
        self,
        ref: str,
        dispatch_id: str,
        *,
        message: str | None = None,
        cascade: bool = True,
        if_status: Sequence[str] = (),
        key: str | None = None,
    ) -> Json:
        """End a queued dispatch, or ask a running one to end; and what works for it.

        Args: cascade: False leaves its sub-jobs alone.
        Returns: `{status, cancellationId?}`: `cancelled`, `requested`, or how it had ended
        before; the id if anything works for it.
        """
        return await self._connection.call(
            "POST",
            f"{_path(ref)}/dispatches/{segment(dispatch_id)}/cancel",
            body=present({"message": message, "cascade": cascade}) | _guard(if_status),
            key=key,
        )

    async def cancel_all(
        self,
        ref: str,
        *,
        message: str | None = None,
        cascade: bool = True,
        if_status: Sequence[str] = (),
        key: str | None = None,
    ) -> Json:
        """Cancel every dispatch that is open now, here and (`cascade`) in all threads below.

        Returns: `{id, done, threads, cancelled, requested, …}`; not done: the rest is being
        worked off, ask `client.cancellations.get(id)`.
        """
        return await self._connection.call(
            "POST",
            f"{_path(ref)}/cancel",
            body=present({"message": message, "cascade": cascade}) | _guard(if_status),
            key=key,
        )

    async def agents(self, ref: str) -> Json:
        """Return `{agents: [{agentId, handle, triggerMode, source}]}`: whom a thread wakes."""
        return await self._connection.call("GET", f"{_path(ref)}/agents")

    async def reset_trigger(self, ref: str, agent: str, *, key: str | None = None) -> None:
        """Let an agent answer in this thread as the house says. Again is harmless."""
        await self._connection.call("DELETE", f"{_path(ref)}/agents/{segment(agent)}", key=key)

    async def set_trigger(
        self, ref: str, agent: str, trigger_mode: str, *, key: str | None = None
    ) -> Json:
        """Say when an agent answers in this thread: `always`, `mention` or `never`."""
        return await self._connection.call(
            "PUT",
            f"{_path(ref)}/agents/{segment(agent)}",
            body={"triggerMode": trigger_mode},
            key=key,
        )


def _guard(if_status: Sequence[str]) -> dict[str, list[str]]:
    return {"ifStatus": list(if_status)} if if_status else {}


def _path(ref: str) -> str:
    return f"/v1/threads/{segment(ref)}"
