"""Segments: contiguous entries of a stream as they are kept outside Redis, packed.

A segment goes on from a place (`after_id`, the last entry before it) to its last entry; the
next one goes on from there. Bytes are MessagePack `[version, [[id, seq, writer, payload]]]`,
deflated.
"""

import hashlib
import zlib
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from dispatch.errors import Invalid
from dispatch.ids import EntryId, ThreadId
from dispatch.streams.entries import Entry

_VERSION: Final = 1
_Packed = tuple[int, list[tuple[str, int | None, str | None, bytes]]]


class Segment(msgspec.Struct, frozen=True):
    """Some entries of a thread, read back. Nobody changes it."""

    after_id: EntryId
    last_id: EntryId
    entries: Sequence[Entry]


class Segments(Protocol):
    """Where the segments of threads are found."""

    async def after(self, thread_id: ThreadId, place: EntryId) -> Segment | None:
        """Return the segment with the entries after a place: after_id <= place < last_id."""
        ...

    async def until(self, thread_id: ThreadId, place: EntryId) -> Segment | None:
        """Return the segment with the entries up to a place: after_id < place <= last_id."""
        ...


def pack(entries: Sequence[Entry]) -> bytes:
    """Return entries as bytes, ids, sequence, writer and payload exactly."""
    rows = [(entry.id, entry.seq, entry.writer, entry.raw) for entry in entries]
    return zlib.compress(msgspec.msgpack.encode((_VERSION, rows)))


def unpack(packed: bytes, *, checksum: bytes) -> list[Entry]:
    """Return what was packed.

    Raises: Invalid, if it is not that, or of a version that is not known here.
    """
    if checksum_of(packed) != checksum:
        raise Invalid("A segment is not what was archived: its checksum differs.")
    version, rows = msgspec.msgpack.decode(zlib.decompress(packed), type=_Packed)
    if version != _VERSION:
        raise Invalid(f"A segment has version {version}, which is not known here.")
    return [Entry(EntryId(entry_id), raw, seq, writer) for entry_id, seq, writer, raw in rows]


def checksum_of(packed: bytes) -> bytes:
    """Return the SHA-256 of packed bytes."""
    return hashlib.sha256(packed).digest()
