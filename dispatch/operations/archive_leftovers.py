"""What archives and restores leave behind: dropped segments, objects that no row names.

Everything is kept for `archive_grace_seconds`: whoever stands still half way, or a Redis that
forgets a restore, finds it there.
"""

import uuid
from collections import Counter
from typing import Final

from dispatch import clock
from dispatch.ids import SegmentId
from dispatch.models.archives import SegmentRow
from dispatch.operations.record import Record
from dispatch.stores import objects
from dispatch.stores.postgres import engine, segments
from dispatch.streams import archives

SHARDS: Final = 256
"""Folders right below the archive's URL; a pass looks at one."""
_TIMESTAMP_SHIFT: Final = 80
"""A segment's id is a UUIDv7: its first 48 bits are the Unix milliseconds of its birth."""


async def forget_dropped(record: Record) -> Counter[str]:
    """Remove a batch of segments of threads that were restored long ago.

    Promise: one by which the stream is trimmed, for Redis forgot the restore, stays.
    Raises: Unavailable, Invalid.
    """
    grace = record.settings.archive_grace_seconds
    async with engine.as_worker(record.projector) as connection:
        found = await segments.list_dropped(
            connection, older_than_seconds=grace, limit=record.settings.sweep_batch
        )
    counts: Counter[str] = Counter()
    for row in found:
        is_needed = await _is_needed(record, row)
        async with engine.as_worker(record.projector) as connection:
            if is_needed:
                await segments.drop_again(connection, segment_id=row.id)
                continue
            is_gone = await segments.delete(
                connection, segment_id=row.id, dropped_for_seconds=grace
            )
        if is_gone and row.place is not None:
            await objects.delete(row.place)
        counts["dropped"] += is_gone
    return counts


async def forget_orphans(record: Record, shard: int) -> Counter[str]:
    """Remove objects of one shard that no segment names, and that are old enough.

    Raises: Unavailable, Invalid.
    """
    counts: Counter[str] = Counter()
    url = record.settings.archive_url.get_secret_value()
    if not url:
        return counts
    top = f"{shard:02x}"
    for thread in await objects.list_names(url, top):
        names = await objects.list_names(url, f"{top}/{thread}")
        old = {each for name in names if (each := _segment_id(name)) and _is_old(record, each)}
        async with engine.as_worker(record.projector) as connection:
            named = await segments.list_present(connection, segment_ids=old)
        for each in old - named:
            await objects.delete(f"{url.rstrip('/')}/{top}/{thread}/{each}")
            counts["orphans"] += 1
    return counts


async def _is_needed(record: Record, row: SegmentRow) -> bool:
    """Tell whether readers of what was trimmed would be handed this segment."""
    pointer = await archives.pointer(record.connection, row.thread_id)
    if pointer.last_id < row.last_id:
        return False
    async with engine.as_worker(record.projector) as connection:
        covering = await segments.find_covering(
            connection, thread_id=row.thread_id, place=row.last_id, includes=True
        )
    return covering is not None and covering.id == row.id


def _segment_id(name: str) -> SegmentId | None:
    try:
        return SegmentId(uuid.UUID(name))
    except ValueError:
        return None


def _is_old(record: Record, segment_id: SegmentId) -> bool:
    born = (segment_id.int >> _TIMESTAMP_SHIFT) / 1000
    return clock.now().timestamp() - born > record.settings.archive_grace_seconds
