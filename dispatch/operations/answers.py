"""What a turn said in the end, and how many agents' answers led to it, as its stream tells."""

from collections.abc import AsyncIterator

import msgspec

from dispatch.errors import Invalid
from dispatch.ids import DispatchId, EntryId, ThreadId, entry_of
from dispatch.operations import receipts
from dispatch.operations.record import Record
from dispatch.payloads import content
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import Started
from dispatch.streams.entries import Entry


class Answered(msgspec.Struct, kw_only=True):
    """A turn with its last message."""

    story: receipts.Story
    begun_by: EntryId
    """The entry of a person or service that led to the turn."""
    hops: int
    """Agents' answers between that entry and this turn."""
    entry_id: EntryId | None = None
    """The entry of the last message; None: it said nothing."""
    text: str = ""
    reply_count: int = 0
    """Agents' answers that became entries since `begun_by`."""
    runs: set[str] = msgspec.field(default_factory=set[str])

    def hear(self, entry: Entry) -> None:
        """Take in one more entry of the stream."""
        if self.story.dispatch_id.encode() in entry.raw:
            self.story.hear(entry)
        run_id = (entry.writer or "").partition(":")[0]
        if run_id and run_id not in self.runs:
            return
        match _payload(entry):
            case Started(dispatch_id=dispatch_id, run_id=started):
                if dispatch_id == self.story.dispatch_id:
                    self.runs.add(started)
            case Assistant(message=message) if run_id in self.runs:
                if content.is_finished(message):
                    self.entry_id, self.text = entry.id, content.text_of(message)
            case Chat(begun_by=begun_by):
                self.reply_count += begun_by == self.begun_by
            case _:
                pass


async def read(record: Record, thread_id: ThreadId, dispatch_id: DispatchId) -> Answered | None:
    """Walk from the entry that began it all to the stream's end.

    Returns: None, if the stream knows no such dispatch.
    Raises: Unavailable.
    """
    asking_id = entry_of(dispatch_id)
    asking = await record.entries.find(thread_id, asking_id)
    payload = _payload(asking) if asking is not None else None
    if not isinstance(payload, Chat):
        return None
    found = Answered(
        story=receipts.Story(dispatch_id=dispatch_id),
        begun_by=EntryId(payload.begun_by or asking_id),
        hops=payload.hops,
    )
    async for entry in _after(record, thread_id, found.begun_by):
        found.hear(entry)
    return found if found.story.agent_id else None


async def _after(record: Record, thread_id: ThreadId, after: EntryId) -> AsyncIterator[Entry]:
    """Yield the durable entries after a place, oldest first."""
    size = record.settings.read_chunk_entries
    async for page in record.entries.pages(thread_id, after=after, size=size):
        for entry in page:
            if entry.seq is not None:
                yield entry


def _payload(entry: Entry) -> object:
    try:
        return entry.payload
    except Invalid:
        return None
