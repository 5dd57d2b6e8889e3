"""Remove threads whose time is over: those of a house that are old, all that have expired.

Rows name candidates; each is looked at on its stream, with all below it, and removed only if
nothing was said or done since that look: the row's statement and the stream's script both guard
it, in one transaction. An old thread is ended (`expires_at`) before, and spared if it went on.
Whatever dies at any point, the expiry sweep or a repeat goes on.

Not guaranteed: an entry that a thread *below* a removed one accepts in that very instant; the
life of a thread that went on while its cleanup died; that an end which is put off after a sweep
died between stream and row brings the stream back (all calls answer Gone until that end).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final

import msgspec

from dispatch import log
from dispatch.errors import ArbeError, Invalid
from dispatch.ids import ThreadId
from dispatch.models import cleanups
from dispatch.models import state as states
from dispatch.models.cleanups import Cleanup, Seen
from dispatch.models.houses import Caller
from dispatch.models.threads import Thread
from dispatch.operations import delete_thread, labels, paging
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, old_threads
from dispatch.streams import entries, lanes
from dispatch.streams import threads as streams

_log = log.get(__name__)
_AT_ONCE: Final = 4
"""Threads of one pass that are looked at side by side: half of a process's connections."""
_MAX_AGE: Final = 100 * 366 * 24 * 3600
_EXPIRED: Final = Cleanup(expired=True, pinned=True)


class CleanedUp(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one batch. `next_cursor` None: that was the last one."""

    counts: Counter[str]
    """By verdict: `deleted` (dry run: `removable`), `running`, `recent`, `pinned`, `changed`,
    `unavailable`."""
    thread_ids: tuple[ThreadId, ...]
    """Those that were deleted, or would be."""
    next_cursor: str | None


async def clean_up(
    record: Record,
    who: Caller,
    where: Cleanup,
    *,
    dry_run: bool = False,
    limit: int | None = None,
    cursor: str | None = None,
) -> CleanedUp:
    """Delete a batch of the house's threads that fit, each with all below it.

    Promise: never the primary thread; a running or pinned one only if `where` says so. A repeat
    from the beginning goes on where this ended, however it ended.
    Raises: Invalid, Unavailable.
    """
    _check(where)
    if where.tag is not None:
        (tag,) = labels.tags([where.tag], record.settings)
        where = msgspec.structs.replace(where, tag=tag)
    size = paging.size(limit, record.settings)
    after = paging.place(cursor, ThreadId)
    before_ms = await _before_ms(record, where)
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await old_threads.list_old(
            connection,
            house_id=who.house_id,
            where=where,
            before_ms=before_ms,
            after_id=after,
            limit=size + 1,
        )
    page = paging.page(found, size)
    batch = _Batch(record, who, where, before_ms=before_ms, dry_run=dry_run)
    verdicts = await batch.look_at_all(page.items)
    gone = "removable" if dry_run else "deleted"
    return CleanedUp(
        counts=Counter(verdict for _, verdict in verdicts),
        thread_ids=tuple(thread_id for thread_id, verdict in verdicts if verdict == gone),
        next_cursor=page.next_cursor,
    )


async def expire(record: Record, *, dry_run: bool = False, max_batches: int) -> Counter[str]:
    """Delete the threads of all houses that have expired and do not run; return the verdicts.

    Promise: twice at once removes each thread once. An end that is put off before the row is
    removed saves the thread; afterwards it is gone.
    """
    counts: Counter[str] = Counter()
    batch = _Batch(record, None, _EXPIRED, before_ms=0, dry_run=dry_run)
    after = None
    for _ in range(max_batches):
        async with engine.as_worker(record.projector) as connection:
            page = await old_threads.list_expired(
                connection, after=after, limit=record.settings.sweep_batch
            )
        counts.update(verdict for _, verdict in await batch.look_at_all(page))
        if len(page) < record.settings.sweep_batch:
            break
        last = page[-1]
        after = None if last.expires_at is None else (last.expires_at, last.id)
    return counts


class _ChangedError(Exception):
    """The stream went on since it was looked at: the transaction is rolled back."""


class _Batch:
    """What all threads of one pass share. `who` None: a sweep, in the worker's role."""

    def __init__(
        self,
        record: Record,
        who: Caller | None,
        where: Cleanup,
        *,
        before_ms: int,
        dry_run: bool,
    ) -> None:
        self._record, self._who, self._where = record, who, where
        self._before_ms, self._dry_run = before_ms, dry_run

    async def look_at_all(self, page: Sequence[Thread]) -> list[tuple[ThreadId, str]]:
        """Return each thread's verdict, in the page's order."""
        verdicts: list[str] = []
        for start in range(0, len(page), _AT_ONCE):
            some = page[start : start + _AT_ONCE]
            verdicts += await asyncio.gather(*(self._look_at(row) for row in some))
        return [(row.id, verdict) for row, verdict in zip(page, verdicts, strict=True)]

    async def _look_at(self, row: Thread) -> str:
        """Judge one thread and remove it if it is to go; one that fails stops no other."""
        try:
            async with self._door() as connection:
                below = await old_threads.list_below(connection, thread_id=row.id)
            tree = [await self._seen(each) for each in (row, *below)]
            verdict = cleanups.judge(tree, self._where, before_ms=self._before_ms)
            if verdict != "removable" or self._dry_run:
                return verdict
            return await self._remove(tree)
        except ArbeError as error:
            _log.warning("thread.not_removed", thread_id=str(row.id), cause=str(error))
            return "unavailable"

    async def _remove(self, tree: list[Seen]) -> str:
        """Let its time be over, then remove it: who dies in between leaves it to the sweep."""
        top = tree[0]
        ended_at = top.row.expires_at if self._where.expired else await self._end(top.row)
        if ended_at is None:
            return "changed"
        try:
            async with self._door() as connection:
                await self._remove_row(connection, top)
        except _ChangedError:
            if not self._where.expired:
                await self._spare(top.row, ended_at)
            return "changed"
        for each in tree:
            await delete_thread.remove_stream(self._record, each.row.id)
        return "deleted"

    async def _end(self, row: Thread) -> datetime | None:
        async with self._door() as connection:
            ended_at = await old_threads.end(
                connection, thread_id=row.id, where=self._where, before_ms=self._before_ms
            )
        self._record.forget()
        return ended_at

    async def _spare(self, row: Thread, ended_at: datetime) -> None:
        async with self._door() as connection:
            await old_threads.spare(
                connection, thread_id=row.id, ended_at=ended_at, expires_at=row.expires_at
            )
        self._record.forget()

    async def _remove_row(self, connection: Any, top: Seen) -> None:
        """Delete the row; while it is locked and nobody can change it, the stream too.

        Raises: _ChangedError, if either went on since it was looked at.
        """
        is_held = await old_threads.delete(
            connection, thread_id=top.row.id, where=self._where, before_ms=self._before_ms
        )
        is_sealed = is_held and await streams.delete(
            self._record.scripts,
            top.row.id,
            tombstone_seconds=self._record.settings.tombstone_seconds,
            only_at=None if self._where.running else top.state.mark,
        )
        if not is_sealed:
            raise _ChangedError

    async def _seen(self, row: Thread) -> Seen:
        fields = await entries.state_fields(self._record.connection, row.id)
        return Seen(row, states.from_fields(fields))

    def _door(self) -> AbstractAsyncContextManager[Any]:
        if self._who is None:
            return engine.as_worker(self._record.projector)
        return engine.as_member(self._record.members, self._who.member_id)


async def _before_ms(record: Record, where: Cleanup) -> int:
    now_ms = await lanes.now_ms(record.connection)
    return now_ms - int((where.older_than_seconds or 0) * 1000)


def _check(where: Cleanup) -> None:
    if where.older_than_seconds is None and not where.expired:
        raise Invalid(
            "A cleanup needs an age.",
            next_step="Send `olderThan` in seconds, or `expired`.",
        )
    if where.older_than_seconds is not None and not 0 < where.older_than_seconds <= _MAX_AGE:
        raise Invalid(
            "`olderThan` must be above 0 seconds, and below a hundred years.",
            next_step="Send for how long nothing was said in them.",
        )
    if where.status == "running" and not where.running:
        raise Invalid(
            "Running threads are not cleaned up by the way.",
            next_step="Send `running` too, if their turns shall be cut off.",
        )
