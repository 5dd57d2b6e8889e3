"""Identifiers: each kind is its own type, so that one cannot stand where another belongs.

Rows carry UUIDv7 (time-ordered, so a primary key is also the paging order). Entries carry
their place on the stream. Nothing here is a secret and nothing here proves a right.
"""

import os
import re
import time
import uuid
from typing import Final, NewType

HouseId = NewType("HouseId", uuid.UUID)
MemberId = NewType("MemberId", uuid.UUID)
TokenId = NewType("TokenId", uuid.UUID)
AgentId = NewType("AgentId", uuid.UUID)
EnvironmentId = NewType("EnvironmentId", uuid.UUID)
SandboxId = NewType("SandboxId", uuid.UUID)
ThreadId = NewType("ThreadId", uuid.UUID)
CancellationId = NewType("CancellationId", uuid.UUID)
"""A cancel that reaches more than one dispatch."""
SegmentId = NewType("SegmentId", uuid.UUID)
"""Some archived entries of a thread."""
EntryId = NewType("EntryId", str)
"""Place of an entry on a stream: `%015d_%010d` of Redis's `ms-n`: text order is time order."""
DispatchId = NewType("DispatchId", str)
"""`<entry id>.<i>`: the i-th dispatch born from that entry. Unique within its thread."""
RunId = NewType("RunId", str)
"""12 random hex digits, chosen by the worker that claims."""
WorkerId = NewType("WorkerId", str)
"""One worker process: `<host>.<pid>.<random>`."""

ENTRY_ID: Final = re.compile(r"[0-9]{15}_[0-9]{10}\Z")
DISPATCH_ID: Final = re.compile(r"[0-9]{15}_[0-9]{10}\.[0-9]{1,3}\Z")
HANDLE: Final = re.compile(r"[a-z][a-z0-9_-]{0,38}\Z")

BEGINNING: Final = EntryId("000000000000000_0000000000")


def uuid7() -> uuid.UUID:
    """Make a UUIDv7: 48 bits of Unix milliseconds, then 74 random bits (RFC 9562, 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def new_run_id() -> RunId:
    """Choose the identity of a run; its holder alone can write as that run."""
    return RunId(os.urandom(6).hex())


def entry_id_of(redis_id: str) -> EntryId:
    """Turn Redis's `ms-n` into the public form, whose text order is stream order."""
    milliseconds, _, number = redis_id.partition("-")
    return EntryId(f"{int(milliseconds):015d}_{int(number):010d}")


def redis_id_of(entry_id: EntryId) -> str:
    """Turn a public entry id back into Redis's `ms-n`."""
    milliseconds, _, number = entry_id.partition("_")
    return f"{int(milliseconds)}-{int(number)}"


def milliseconds_of(entry_id: EntryId) -> int:
    """Tell when the entry was appended: Unix milliseconds of Redis's clock."""
    return int(entry_id[:15])


def entry_of(dispatch_id: DispatchId) -> EntryId:
    """Tell which entry gave birth to the dispatch."""
    return EntryId(dispatch_id.partition(".")[0])
