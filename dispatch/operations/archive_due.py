"""Archive the threads that are too long or old, roll them over, let old archives expire.

Safe twice at once and when killed. It looks at rows page by page, at those whose config says
something about archiving where the settings say nothing, and stops when its time is over.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from dispatch import clock, log
from dispatch.errors import ArbeError
from dispatch.ids import HouseId, ThreadId, milliseconds_of, uuid7
from dispatch.models import archives as decisions
from dispatch.models import state as states
from dispatch.models.archives import ArchivePolicy, Sight
from dispatch.models.threads import Thread
from dispatch.operations import archive_thread, roll_over
from dispatch.operations.record import Record
from dispatch.stores.postgres import archived_threads, engine
from dispatch.streams import archives, entries, lanes

_log = log.get(__name__)
MAX_PAGES: Final = 20
"""Of `sweep_batch` rows, in one pass."""


class Due(NamedTuple):
    """What is to be done with a thread."""

    row: Thread
    policy: ArchivePolicy
    keep: int | None
    expires: bool


class Pass(NamedTuple):
    """What was done, and the thread after which to go on; None: all were looked at."""

    counts: Counter[str]
    next_after: ThreadId | None


async def archive_due(
    record: Record,
    *,
    house_id: HouseId | None = None,
    after_id: ThreadId | None = None,
    seconds: float,
    dry_run: bool = False,
) -> Pass:
    """Go through the threads of a house, or of all, for that long and `MAX_PAGES` pages.

    Returns: counts: `checked`; `due` (too long or old); `archived`, `entries`, `rolled_over`,
        `expired`, `unavailable`. A dry run counts `checked`, `due` and `expired` only.
    Raises: Unavailable.
    """
    counts: Counter[str] = Counter()
    until = clock.monotonic_seconds() + seconds
    for _ in range(MAX_PAGES):
        page = await _list_page(record, house_id, after_id)
        now_ms = await lanes.now_ms(record.connection)
        for due in await asyncio.gather(*(_look_at(record, row, now_ms) for row in page)):
            counts += Counter(checked=1, due=due.keep is not None)
            counts += Counter(expired=due.expires) if dry_run else await _try(record, due)
            after_id = due.row.id
            if clock.monotonic_seconds() >= until:
                return Pass(counts, after_id)
        if len(page) < record.settings.sweep_batch:
            return Pass(counts, None)
    return Pass(counts, after_id)


async def _list_page(
    record: Record, house_id: HouseId | None, after_id: ThreadId | None
) -> Sequence[Thread]:
    usual = decisions.policy({}, record.settings)
    is_usual = usual.after_entries or usual.after_seconds or usual.retention_seconds
    async with engine.as_worker(record.projector) as connection:
        return await archived_threads.list(
            connection,
            house_id=house_id,
            only_configured=not is_usual,
            after_id=after_id,
            limit=record.settings.sweep_batch,
        )


async def _look_at(record: Record, row: Thread, now_ms: int) -> Due:
    policy = decisions.policy(row.config, record.settings)
    fields, live = await asyncio.gather(
        entries.state_fields(record.connection, row.id),
        archives.count_live(record.connection, row.id),
    )
    state = states.from_fields(fields)
    if not state.is_open:
        return Due(row, policy, None, expires=False)
    archived = row.archived_at
    sight = Sight(
        live_entries=live,
        last_ms=max(milliseconds_of(state.mark), clock.milliseconds(row.updated_at)),
        has_work=state.has_work,
        now_ms=now_ms,
        archived_ms=None if archived is None else clock.milliseconds(archived),
    )
    expires = row.expires_at is None and decisions.expires(policy, sight)
    return Due(row, policy, decisions.keep(policy, sight), expires=expires)


async def _try(record: Record, due: Due) -> Counter[str]:
    """Do what is due with one thread; one that fails stops no other."""
    try:
        return await _do(record, due)
    except ArbeError as error:
        _log.warning("thread.not_archived", thread_id=str(due.row.id), cause=str(error))
        return Counter(unavailable=1)


async def _do(record: Record, due: Due) -> Counter[str]:
    counts: Counter[str] = Counter()
    if due.expires:
        async with engine.as_worker(record.projector) as connection:
            counts["expired"] += await archived_threads.set_expired(
                connection, thread_id=due.row.id
            )
    if due.keep is None:
        return counts
    if due.policy.roll_over:
        await roll_over.require_rest(record, due.row)
    keep = 1 if due.policy.roll_over else due.keep
    moved = await archive_thread.archive_thread(record, due.row, keep_entries=keep)
    counts["archived"] += moved.entries > 0
    counts["entries"] += moved.entries
    if due.policy.roll_over:
        await roll_over.roll_over(record, due.row, new_id=ThreadId(uuid7()))
        counts["rolled_over"] += 1
    return counts
