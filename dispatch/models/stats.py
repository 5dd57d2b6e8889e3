"""What a stretch of a stream counts: messages, runs, and the last run of it. Pure.

Counts of parts add up, in the stream's order, to the count of the whole, wherever it is cut; so
a part that is moved elsewhere may leave its count behind.
"""

from collections.abc import Iterable
from functools import singledispatch
from typing import Literal

import msgspec
from msgspec.structs import replace

from dispatch.errors import Invalid
from dispatch.ids import DispatchId, EntryId, entry_of, milliseconds_of
from dispatch.models.edits import FoldEntry
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import Cancelled, Completed, Failed, Queued, Started, Steered

RunEnd = Literal["completed", "failed", "cancelled", "steered"]


class LastRun(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What was seen of the dispatch that was born last; times are Unix ms of the stream."""

    dispatch_id: DispatchId
    agent_id: str | None = None
    started_at: int | None = None
    """When its last attempt started; None: none did."""
    ended_at: int | None = None
    end: RunEnd | None = None
    """None: it had not ended."""
    reason: str | None = None

    @property
    def queued_at(self) -> int:
        """Return when the entry was accepted that gave birth to it."""
        return milliseconds_of(entry_of(self.dispatch_id))

    def merged(self, later: "LastRun") -> "LastRun":
        """Return the same dispatch with what a later part tells of it."""
        told = msgspec.structs.asdict(later).items()
        return replace(self, **{name: value for name, value in told if value is not None})


class Counts(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Counts of a stretch; the durable entries only, so that compaction changes nothing."""

    entries: int = 0
    messages: int = 0
    """Chat entries, and messages of agents."""
    runs: int = 0
    """Dispatches that were accepted."""
    last_run: LastRun | None = None
    """The youngest dispatch that the stretch speaks of, whether it was born in it or before."""

    def __add__(self, later: "Counts") -> "Counts":
        """Add the count of the stretch that follows."""
        return Counts(
            entries=self.entries + later.entries,
            messages=self.messages + later.messages,
            runs=self.runs + later.runs,
            last_run=_younger(self.last_run, later.last_run),
        )


def count(entries: Iterable[FoldEntry], before: Counts | None = None) -> Counts:
    """Count entries in the stream's order, on top of those before them."""
    total = before or Counts()
    for entry in entries:
        if entry.seq is None:
            continue
        try:
            told = _told(entry.payload, entry.id)
        except Invalid:
            told = Counts()
        total += replace(told, entries=1)
    return total


@singledispatch
def _told(_payload: object, _at: EntryId) -> Counts:
    return Counts()


@_told.register(Chat | Assistant)
def _message(_payload: Chat | Assistant, _at: EntryId) -> Counts:
    return Counts(messages=1)


@_told.register
def _queued(payload: Queued, _at: EntryId) -> Counts:
    run = LastRun(dispatch_id=DispatchId(payload.dispatch_id), agent_id=payload.agent_id)
    return Counts(runs=1, last_run=run)


@_told.register
def _started(payload: Started, at: EntryId) -> Counts:
    return _of_run(payload.dispatch_id, started_at=milliseconds_of(at))


@_told.register
def _completed(payload: Completed, at: EntryId) -> Counts:
    return _of_run(payload.dispatch_id, ended_at=milliseconds_of(at), end="completed")


@_told.register
def _steered(payload: Steered, at: EntryId) -> Counts:
    return _of_run(payload.dispatch_id, ended_at=milliseconds_of(at), end="steered")


@_told.register
def _failed(payload: Failed, at: EntryId) -> Counts:
    return _of_run(
        payload.dispatch_id, ended_at=milliseconds_of(at), end="failed", reason=payload.reason
    )


@_told.register
def _cancelled(payload: Cancelled, at: EntryId) -> Counts:
    return _of_run(
        payload.dispatch_id,
        ended_at=milliseconds_of(at),
        end="cancelled",
        reason=payload.reason,
    )


def _of_run(
    dispatch_id: str,
    *,
    started_at: int | None = None,
    ended_at: int | None = None,
    end: RunEnd | None = None,
    reason: str | None = None,
) -> Counts:
    run = LastRun(
        dispatch_id=DispatchId(dispatch_id),
        started_at=started_at,
        ended_at=ended_at,
        end=end,
        reason=reason,
    )
    return Counts(last_run=run)


def _younger(before: LastRun | None, later: LastRun | None) -> LastRun | None:
    if before is None or later is None:
        return later or before
    if before.dispatch_id == later.dispatch_id:
        return before.merged(later)
    return max(before, later, key=lambda run: _birth(run.dispatch_id))


def _birth(dispatch_id: DispatchId) -> tuple[str, int]:
    """Return the order of birth, which is the order of the ids."""
    entry, _, number = dispatch_id.partition(".")
    return entry, int(number)
