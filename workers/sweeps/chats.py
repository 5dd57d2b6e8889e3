"""Remove ARC's closed chats when their time is over; their threads have their own retention."""

from dispatch.chats import open_storage
from dispatch.operations import chats
from dispatch.operations.record import Record
from workers.sweeps import Counts


async def sweep(record: Record) -> Counts:
    """Go once through what is over, in whichever storage the chats are."""
    settings = record.settings
    async with open_storage(settings, database=record.projector) as storage:
        return await chats.sweep(storage, settings)
