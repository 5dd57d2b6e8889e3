"""Whole outputs of commands that were too long for the stream: written in parts, read back.

Not guaranteed: that an output is whole. It is cut at `max_kept_output_bytes`, and ends early
when Postgres was away while the command ran.
"""

import asyncio
import uuid
import zlib
from collections.abc import AsyncIterator
from typing import Final

from dispatch.errors import NotFound
from dispatch.ids import ThreadId
from dispatch.models.houses import Caller
from dispatch.operations.record import Record
from dispatch.stores.postgres import command_outputs, engine

PART_BYTES: Final = 1024 * 1024
"""What a writer and a reader hold in memory at once."""
_LEVEL: Final = 1
"""Fast: 1 MiB of text in a few milliseconds, off the loop."""


async def append(
    record: Record, thread_id: ThreadId, ref: uuid.UUID, *, part: int, data: bytes
) -> bool:
    """Keep a part of an output; False if its thread is gone. Raises: Unavailable."""
    packed = await asyncio.to_thread(zlib.compress, data, _LEVEL)
    async with engine.as_worker(record.projector) as connection:
        return await command_outputs.insert(
            connection, thread_id=thread_id, ref=ref, part=part, data=packed
        )


async def read(
    record: Record, who: Caller, thread_id: ThreadId, ref: str
) -> AsyncIterator[bytes]:
    """Return an output's bytes, part by part; each is read when it is asked for.

    Raises: NotFound, before anything is handed out; Unavailable, at any part.
    """
    wanted = _ref(ref)
    first = await _part(record, who, thread_id, wanted, 0)
    if first is None:
        raise _unknown(ref)
    return _parts(record, who, thread_id, wanted, first)


async def forget(record: Record) -> int:
    """Forget a batch of parts as old as `output_seconds`; tell how many."""
    async with engine.as_worker(record.projector) as connection:
        return await command_outputs.delete_old(
            connection,
            older_than_seconds=record.settings.output_seconds,
            limit=record.settings.sweep_batch,
        )


async def _parts(
    record: Record, who: Caller, thread_id: ThreadId, ref: uuid.UUID, first: bytes
) -> AsyncIterator[bytes]:
    part: bytes | None = first
    number = 0
    while part is not None:
        yield await asyncio.to_thread(zlib.decompress, part)
        number += 1
        part = await _part(record, who, thread_id, ref, number)


async def _part(
    record: Record, who: Caller, thread_id: ThreadId, ref: uuid.UUID, number: int
) -> bytes | None:
    async with engine.as_member(record.members, who.member_id) as connection:
        return await command_outputs.find_part(
            connection, thread_id=thread_id, ref=ref, part=number
        )


def _ref(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise _unknown(text) from None


def _unknown(ref: str) -> NotFound:
    return NotFound(
        "output",
        ref[:80],
        next_step="Take it from a tool result's `details.output.ref`; old ones are forgotten.",
    )
