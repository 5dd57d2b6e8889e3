"""The house's threads with work or a late failure, judged; the stuck ones listed in pages.

A sample: rows that say `running`, rows that failed within a day, and the lanes of the due index
that belong to the house. Read only, and bounded however much there is.
"""

import asyncio
from collections import Counter
from typing import Final, NamedTuple

from msgspec.structs import replace

from dispatch.config import Settings
from dispatch.models import state as states
from dispatch.models.diagnosis import Sight, Stage, fleet, rank
from dispatch.models.diagnosis import threads as judges
from dispatch.models.diagnosis.fleet import HouseThreads, ListedThread
from dispatch.models.houses import Caller
from dispatch.models.threads import Thread
from dispatch.operations import paging
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, unsettled_threads
from dispatch.streams import entries
from dispatch.streams import fleet as shared
from dispatch.streams.entries import Entry

_MAX_ROWS: Final = 500
_MAX_LANES: Final = 2_000
"""Lanes of all houses, the longest overdue first: stuck ones come early."""
_FAILED_WITHIN_SECONDS: Final = 24 * 3600.0
_RECENT_ENTRIES: Final = 20
_NEED_A_LOOK: Final[frozenset[Stage]] = frozenset({"stalled", "no_progress", "failed"})
Place = tuple[int, int, str]
"""Where a thread stands in the list: rank of its stage, since when, id."""


class Rows(NamedTuple):
    """The threads to look at; False: there are more."""

    found: tuple[Thread, ...]
    is_complete: bool


class Wanted(NamedTuple):
    """One page of the list."""

    after: Place | None
    size: int


def page_of(cursor: str | None, limit: int | None, settings: Settings) -> Wanted:
    """Read which page a caller wants. Raises: Invalid."""
    return Wanted(_place(cursor), paging.size(limit, settings))


async def rows(record: Record, who: Caller) -> Rows:
    """Return the rows to look at. To be called before their states are read.

    Raises: Unavailable.
    """
    due = await shared.list_lanes(record.connection, limit=_MAX_LANES)
    async with engine.as_member(record.members, who.member_id) as connection:
        running = await unsettled_threads.list_running(
            connection, house_id=who.house_id, limit=_MAX_ROWS
        )
        failed = await unsettled_threads.list_failed(
            connection,
            house_id=who.house_id,
            within_seconds=_FAILED_WITHIN_SECONDS,
            limit=_MAX_ROWS,
        )
        known = {row.id for row in (*running, *failed)}
        waiting = {ref.thread_id: -place for place, ref in enumerate(reversed(due))}
        queued = await unsettled_threads.list_chosen(
            connection, thread_ids=waiting.keys() - known
        )
    longest_due_first = sorted(queued, key=lambda row: waiting[row.id])
    chosen = (*longest_due_first[:_MAX_ROWS], *running, *failed)
    is_complete = len(due) < _MAX_LANES and max(map(len, (queued, running, failed))) < _MAX_ROWS
    return Rows(chosen, is_complete)


async def judge(record: Record, chosen: Rows, sight: Sight, wanted: Wanted) -> HouseThreads:
    """Judge the threads of some rows, and list one page of those that need a look.

    Raises: Unavailable.
    """
    after, size = wanted
    judged = await asyncio.gather(*(_judge(record, row, sight) for row in chosen.found))
    bad = sorted((each for each in judged if each.stage in _NEED_A_LOOK), key=_place_of)
    rest = [each for each in bad if after is None or _place_of(each) > after]
    page = tuple(rest[:size])
    return HouseThreads(
        stages=dict(Counter(each.stage for each in sorted(judged, key=_place_of))),
        looked_at=len(judged),
        is_complete=chosen.is_complete,
        listed=page,
        next_cursor=_cursor(page[-1]) if len(rest) > size else None,
    )


async def _judge(record: Record, row: Thread, sight: Sight) -> ListedThread:
    fields = await entries.state_fields(record.connection, row.id)
    state = states.from_fields(fields)
    recent: list[Entry] = []
    if not state.has_work:
        recent = await record.entries.latest(row.id, limit=_RECENT_ENTRIES)
    return fleet.list_thread(
        row, state, judges.diagnose(state, recent, replace(sight, row=row))
    )


def _place_of(thread: ListedThread) -> Place:
    return rank(thread.stage), thread.since_ms, thread.thread_id.hex


def _cursor(thread: ListedThread) -> str:
    return ".".join(map(str, _place_of(thread)))


def _place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    try:
        order, since_ms, thread_id = cursor.split(".")
        return int(order), int(since_ms), thread_id
    except ValueError as error:
        raise paging.bad_cursor() from error
