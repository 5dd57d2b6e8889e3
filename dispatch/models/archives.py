"""What of a thread is moved out of Redis, and when: its policy and the decisions. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import msgspec

from dispatch.errors import Invalid
from dispatch.ids import (
    BEGINNING,
    DispatchId,
    EntryId,
    HouseId,
    SegmentId,
    ThreadId,
    entry_of,
)

_KEY: Final = "archive"


class Pointer(msgspec.Struct, frozen=True):
    """How far a stream is archived, as its state hash holds it: `<moves>,<last entry>`.

    `text` is another one after each archive and each restore, so it fences both. It is the
    second field beside the fold, like `boot`.
    """

    text: str = ""
    last_id: EntryId = BEGINNING
    """The last archived entry; every later one is on the stream."""

    @classmethod
    def of(cls, text: str | None) -> "Pointer":
        """Read the field; None: nothing was ever archived."""
        if text is None:
            return cls()
        return cls(text, EntryId(text.partition(",")[2]) or BEGINNING)


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where some archived entries are, and what they must be."""

    id: SegmentId
    thread_id: ThreadId
    house_id: HouseId
    fence: str
    """The pointer's text when it was made: only while it is that, the stream is trimmed."""
    after_id: EntryId
    """The entry before them; they go on from there. `BEGINNING`: they are the first."""
    first_id: EntryId
    last_id: EntryId
    first_seq: int | None
    """Of the first durable entry; None: there is none."""
    last_seq: int | None
    entry_count: int
    byte_count: int
    """Of their payloads."""
    packed_bytes: int
    checksum: bytes
    """SHA-256 of the packed bytes."""
    place: str | None = None
    """URL of the object that holds them; None: the row does, in a column of its own."""
    dropped_at: datetime | None = None
    """When the thread was restored: they are on the stream again."""


class ArchivePolicy(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True
):
    """When a thread is archived; 0: never. A thread's `config.archive` wins by field."""

    after_entries: int = 0
    """More live entries than this: all but the last `keep_entries` go."""
    after_seconds: float = 0
    """Nothing new for this long: all but the last entry go."""
    keep_entries: int = 1
    roll_over: bool = False
    """Go on in a new thread then."""
    retention_seconds: float = 0
    """Archived and nothing new for this long: the thread expires."""


class Defaults(Protocol):
    """What holds where a thread says nothing; the settings have it."""

    @property
    def archive_after_entries(self) -> int:
        """See `ArchivePolicy`."""
        ...

    @property
    def archive_after_seconds(self) -> float:
        """See `ArchivePolicy`."""
        ...

    @property
    def archive_keep_entries(self) -> int:
        """See `ArchivePolicy`."""
        ...

    @property
    def archive_retention_seconds(self) -> float:
        """See `ArchivePolicy`."""
        ...


def policy(config: Mapping[str, Any], defaults: Defaults) -> ArchivePolicy:
    """Return what holds for a thread with this config; nonsense in it says nothing."""
    said = config.get(_KEY)
    usual = {
        "afterEntries": defaults.archive_after_entries,
        "afterSeconds": defaults.archive_after_seconds,
        "keepEntries": defaults.archive_keep_entries,
        "retentionSeconds": defaults.archive_retention_seconds,
    }
    try:
        return _convert({**usual, **said} if isinstance(said, dict) else usual)
    except Invalid:
        return _convert(usual)


def check(config: Mapping[str, Any], defaults: Defaults) -> None:
    """Return if a thread's config says nothing about archiving, or something sensible.

    Raises: Invalid.
    """
    said = config.get(_KEY, {})
    if not isinstance(said, dict):
        raise _nonsense("it must be an object")
    _convert({"keepEntries": defaults.archive_keep_entries, **said})


def _convert(said: Mapping[str, Any]) -> ArchivePolicy:
    try:
        found = msgspec.convert(said, ArchivePolicy)
    except msgspec.ValidationError as error:
        raise _nonsense(str(error)) from error
    if min(found.after_entries, found.after_seconds, found.retention_seconds) < 0:
        raise _nonsense("nothing may be less than 0")
    if found.keep_entries < 1 or 0 < found.after_entries <= found.keep_entries:
        raise _nonsense("`keepEntries` must be at least 1 and less than `afterEntries`")
    return found


def _nonsense(why: str) -> Invalid:
    return Invalid(
        f"`config.{_KEY}` cannot be used: {why}.",
        next_step="It may hold afterEntries, afterSeconds, keepEntries, rollOver and "
        "retentionSeconds; docs/archive.md says what they mean.",
    )


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What is seen of a thread when somebody asks whether it is to be archived."""

    live_entries: int
    last_ms: int
    """When somebody last posted, or the row changed (Unix ms, like all here)."""
    has_work: bool
    """A turn is queued or runs."""
    now_ms: int
    archived_ms: int | None
    """When entries of it were last archived; None: all are live."""


def keep(asked: ArchivePolicy, sight: Sight) -> int | None:
    """Return how many entries shall stay live; None: leave the thread alone."""
    silent_ms = 0 if sight.has_work else sight.now_ms - sight.last_ms
    if 0 < asked.after_seconds * 1000 <= silent_ms and sight.live_entries > 1:
        return 1
    if 0 < asked.after_entries < sight.live_entries:
        return asked.keep_entries
    return None


def expires(asked: ArchivePolicy, sight: Sight) -> bool:
    """Tell whether an archived thread's time is over: nobody wrote to it since."""
    if sight.archived_ms is None or sight.has_work or asked.retention_seconds <= 0:
        return False
    at_rest_since = max(sight.archived_ms, sight.last_ms)
    return sight.now_ms - at_rest_since >= asked.retention_seconds * 1000


class Weighed(Protocol):
    """An entry as far as it matters here."""

    @property
    def id(self) -> EntryId:
        """Its place."""
        ...

    @property
    def raw(self) -> bytes:
        """Its payload."""
        ...


Item = TypeVar("Item", bound=Weighed)


def head(
    found: Sequence[Item], open_dispatches: Iterable[DispatchId], *, max_bytes: int
) -> Sequence[Item]:
    """Return the part of a stream's head that may go as one segment.

    Promise: no entry from which an open dispatch was born, nor anything after it: its run,
    checkpoint and questions all stand later.
    """
    first_needed = min(map(entry_of, open_dispatches), default=None)
    size = 0
    for count, entry in enumerate(found):
        size += len(entry.raw)
        if (count and size > max_bytes) or (
            first_needed is not None and entry.id >= first_needed
        ):
            return found[:count]
    return found
