"""A cancel that reaches more than one dispatch, and the decision which dispatches it means.

What it reaches: with a `dispatch_id` all that works for that dispatch (threads born for it, and
below them those born for any dispatch); with a `thread_id` only, that thread and, if it
cascades, all below; else the house, or its threads with a `tag` and all below those.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import msgspec

from dispatch.ids import (
    CancellationId,
    DispatchId,
    HouseId,
    ThreadId,
    entry_of,
    milliseconds_of,
)
from dispatch.models.state import Lane, ThreadState
from dispatch.payloads.chat import Author


class NewCancellation(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, by whom, as of when."""

    id: CancellationId
    house_id: HouseId
    thread_id: ThreadId | None = None
    dispatch_id: DispatchId | None = None
    tag: str | None = None
    cascade: bool = True
    by_kind: Literal["member", "agent", "service"]
    by_id: str
    by_name: str | None = None
    message: str | None = None
    before_ms: int
    """Redis's clock when it was asked: what is born later is not meant."""
    is_last_walk: bool = True
    """False: the dispatch may still make work; its threads are walked until it has ended."""


class Below(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of all that works for a dispatch, whichever it is; see NewCancellation."""

    house_id: HouseId
    by: Author
    message: str | None = None
    before_ms: int
    is_last_walk: bool


class Cancellation(msgspec.Struct, frozen=True, kw_only=True):
    """One row. Without `done_at` it is owed; `due_at` is the fence of whoever is at it."""

    id: CancellationId
    house_id: HouseId
    thread_id: ThreadId | None = None
    dispatch_id: DispatchId | None = None
    tag: str | None = None
    cascade: bool
    by_kind: Literal["member", "agent", "service"]
    by_id: str
    by_name: str | None = None
    message: str | None = None
    before_ms: int
    after_thread_id: ThreadId | None = None
    """How far the walk under way has come; None: not begun."""
    is_last_walk: bool
    thread_count: int
    """Threads in which it ended something, or asked it to end."""
    cancelled_count: int
    requested_count: int
    requested_at: datetime
    due_at: datetime
    done_at: datetime | None = None

    @property
    def by(self) -> Author:
        """Return who asked, as a stream names people."""
        return Author(self.by_kind, self.by_id, self.by_name)

    def reason_in(self, thread_id: ThreadId) -> str:
        """Tell, as a stream does, why a dispatch of this thread in reach is to end."""
        is_below = self.dispatch_id is not None or thread_id != self.thread_id
        return "cascade" if self.thread_id is not None and is_below else "requested"

    def means(self, dispatch_id: DispatchId, *, now_ms: int) -> bool:
        """Tell whether an open dispatch of a thread in reach is to end.

        What was born before the request; a birth in the future (a clock set back) tells nothing
        and counts as before. As long as the dispatch that it all works for is ending: all.
        """
        born_ms = milliseconds_of(entry_of(dispatch_id))
        return not self.is_last_walk or not self.before_ms < born_ms <= now_ms


def in_order(state: ThreadState) -> Iterator[DispatchId]:
    """Return a thread's open dispatches, such that ending one never lets the next begin."""
    for lane in state.lanes.values():
        yield from _last_first(lane)


def is_asked(state: ThreadState, dispatch_id: DispatchId) -> bool:
    """Tell whether the dispatch runs and was asked to end."""
    return any(
        lane.run is not None
        and lane.run.dispatch_id == dispatch_id
        and lane.run.cancel_deadline_ms is not None
        for lane in state.lanes.values()
    )


def _last_first(lane: Lane) -> Iterator[DispatchId]:
    yield from reversed(lane.queue)
    if lane.run is not None:
        yield lane.run.dispatch_id
