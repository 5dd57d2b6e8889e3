"""Repair what stands still, in pages: rows that say `running`, deletions left half done.

A GET repairs its own thread; cold rows have no reader, so this looks at every row that says
`running`. Safe twice at once and when killed at any point: it decides nothing itself.
"""

import asyncio
from collections import Counter
from typing import Literal

from dispatch import log
from dispatch.errors import ArbeError, Conflict
from dispatch.ids import HouseId, ThreadId
from dispatch.models.houses import Caller
from dispatch.models.threads import Thread
from dispatch.operations import delete_thread, open_stream, project, reconcile
from dispatch.operations.record import Record
from dispatch.stores.postgres import cancellations, deletions, engine, threads

_log = log.get(__name__)
Look = Literal["looked_at", "orphan", "unavailable"]


async def prune(
    record: Record, *, who: Caller | None = None, dry_run: bool = False
) -> Counter[str]:
    """Go once through all rows that say `running`: of the caller's house, or of all in a sweep.

    Promise: a row whose stream does not exist is an orphan: a caller's prune hard-deletes it, a
    sweep only begins its stream anew, which fails it, since a lost Redis makes orphans of all.
    Returns: counts: `checked`; `repaired` (the row says something else now); `orphans`;
    `deletions` (finished); `unavailable`. A dry run counts `checked` and `orphans` and writes
    nothing.
    """
    counts: Counter[str] = Counter()
    house_id = who.house_id if who is not None else None
    after: ThreadId | None = None
    while True:
        async with engine.as_worker(record.projector) as connection:
            page = await threads.list_running(
                connection,
                house_id=house_id,
                after_id=after,
                limit=record.settings.sweep_batch,
            )
        if not page:
            break
        counts["checked"] += len(page)
        counts += await _repair(record, page, who=who, dry_run=dry_run)
        after = page[-1].id
    if not dry_run:
        counts["deletions"] += await finish_deletions(record, house_id=house_id)
    return counts


async def forget_deletions(record: Record) -> int:
    """Forget a batch of deletions as old as their tombstones; tell how many."""
    async with engine.as_worker(record.projector) as connection:
        return await deletions.delete_done(
            connection,
            older_than_seconds=record.settings.tombstone_seconds,
            limit=record.settings.sweep_batch,
        )


async def forget_cancellations(record: Record) -> int:
    """Forget a batch of cancels that were done as long ago; tell how many."""
    async with engine.as_worker(record.projector) as connection:
        return await cancellations.delete_done(
            connection,
            older_than_seconds=record.settings.tombstone_seconds,
            limit=record.settings.sweep_batch,
        )


async def finish_deletions(record: Record, *, house_id: HouseId | None = None) -> int:
    """Remove the streams of threads whose row is gone; tell how many."""
    count = 0
    after: ThreadId | None = None
    while True:
        async with engine.as_worker(record.projector) as connection:
            page = await deletions.list_open(
                connection, after_id=after, limit=record.settings.sweep_batch
            )
        if not page:
            return count
        for deletion in page:
            if house_id in {None, deletion.house_id}:
                await delete_thread.remove_stream(record, deletion.thread_id)
                count += 1
        after = page[-1].thread_id


async def _repair(
    record: Record, page: tuple[Thread, ...], *, who: Caller | None, dry_run: bool
) -> Counter[str]:
    looks = await asyncio.gather(*(_look_at(record, row, dry_run=dry_run) for row in page))
    orphans = [row for row, look in zip(page, looks, strict=True) if look == "orphan"]
    counts = Counter(orphans=len(orphans), unavailable=looks.count("unavailable"))
    if dry_run:
        return counts
    states = await project.project_many(record, [row.id for row in page])
    counts["repaired"] = sum(state.is_open and not state.has_work for state in states)
    await _end_orphans(record, [row.id for row in orphans], who=who)
    return counts


async def _end_orphans(
    record: Record, thread_ids: list[ThreadId], *, who: Caller | None
) -> None:
    kept: list[ThreadId] = [] if who is not None else thread_ids
    if who is not None:
        for thread_id in thread_ids:
            try:
                await delete_thread.delete_thread(record, who, thread_id)
            except Conflict:
                kept.append(thread_id)  # a house's primary thread stays
    for thread_id in kept:
        try:
            await open_stream.open_stream(record, thread_id)
        except ArbeError as error:
            _log.warning("orphan.not_repaired", thread_id=str(thread_id), cause=error.code)


async def _look_at(record: Record, row: Thread, *, dry_run: bool) -> Look:
    try:
        found = await reconcile.look_at_lanes(record, row.id, dry_run=dry_run)
        if found.is_open and row.stream_id > found.mark and not dry_run:
            # The row has seen more than there is, and no lane is left to tell.
            await record.revalidate(row.id)
    except ArbeError as error:
        _log.warning("thread.not_looked_at", thread_id=str(row.id), cause=str(error))
        return "unavailable"
    return "looked_at" if found.is_open else "orphan"
