"""What became of an entry that was to be answered: the receipts that its stream keeps.

A receipt is not written down a second time: it is how far a dispatch came, in one word.
`accepted` (it waits) becomes `delivered` (to a run of its own, or into a running turn) or
`withdrawn`; one whose turn to join ended first is `fell_through`, until it is delivered.
"""

from collections.abc import AsyncIterator
from typing import Final, Literal

import msgspec

from dispatch import payloads
from dispatch.ids import DispatchId, EntryId, ThreadId, entry_of
from dispatch.operations.record import Record
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    FellThrough,
    Queued,
    Started,
    Steered,
)
from dispatch.streams import entries

Receipt = Literal["accepted", "delivered", "fell_through", "withdrawn"]
_BIRTHS: Final = 200
"""Entries of one accept: three for each agent it wakes (`max_dispatches_per_entry`)."""


class Story(msgspec.Struct, kw_only=True):
    """One dispatch as its stream tells it."""

    dispatch_id: DispatchId
    agent_id: str = ""
    attempt: int = 0
    run_id: str | None = None
    receipt: Receipt = "accepted"
    end: payloads.SignalPayload | None = None
    """What ended it; None: it has not ended."""
    end_id: EntryId | None = None

    def hear(self, entry: entries.Entry) -> None:
        """Take in one more entry that may be about the dispatch."""
        payload = entry.payload
        if getattr(payload, "dispatch_id", None) != self.dispatch_id:
            return
        match payload:
            case Queued():
                self.agent_id = payload.agent_id
            case FellThrough():
                self.receipt = "fell_through"
            case Started():
                self.attempt, self.run_id = payload.attempt, payload.run_id
                self.receipt = "delivered"
            case Steered() | Completed() | Failed() | Cancelled():
                self.end, self.end_id, self.run_id = payload, entry.id, payload.run_id
                self.receipt = _last_receipt(payload, self.receipt)
            case _:
                pass


def _last_receipt(end: Steered | Completed | Failed | Cancelled, before: Receipt) -> Receipt:
    match end:
        case Steered():
            return "delivered"
        case Cancelled(reason="withdrawn"):
            return "withdrawn"
        case Cancelled() if before != "delivered":
            return "withdrawn"
        case _:
            return before


async def read(record: Record, thread_id: ThreadId, dispatch_id: DispatchId) -> Story:
    """Walk from the entry a dispatch was born from to its end, or to the stream's.

    Returns: a story without agent, if there is no such dispatch.
    Raises: Unavailable.
    """
    story = Story(dispatch_id=dispatch_id)
    async for entry in _naming(record, thread_id, dispatch_id):
        story.hear(entry)
        if story.end_id is not None:
            break
    return story


async def born_from(
    record: Record, thread_id: ThreadId, entry_id: EntryId
) -> tuple[DispatchId, ...]:
    """Return the dispatches an entry gave birth to: they stand right behind it."""
    behind = await record.entries.page(thread_id, after=entry_id, limit=_BIRTHS)
    births = (each.payload for each in behind if entry_id.encode() in each.raw)
    return tuple(
        DispatchId(birth.dispatch_id)
        for birth in births
        if isinstance(birth, Queued) and birth.entry_id == entry_id
    )


async def _naming(
    record: Record, thread_id: ThreadId, dispatch_id: DispatchId
) -> AsyncIterator[entries.Entry]:
    """Yield the durable entries that hold a dispatch's id, oldest first."""
    after, name = entry_of(dispatch_id), dispatch_id.encode()
    size = record.settings.read_chunk_entries
    async for page in record.entries.pages(thread_id, after=after, size=size):
        for entry in page:
            if entry.seq is not None and name in entry.raw:
                yield entry
