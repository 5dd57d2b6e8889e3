"""Repair what stands still: rows that say `running`, deletions left half done."""

from dispatch.operations import prune
from dispatch.operations.record import Record
from workers.sweeps import Counts


async def sweep(record: Record) -> Counts:
    """Run one full prune over all houses."""
    return Counts(await prune.prune(record))
