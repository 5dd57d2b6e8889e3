"""Repair what stands still: rows that say `running`, deletions left half done."""

from dispatch.operations import prune
from dispatch.operations.record import Record
from workers.sweeps import Counts


async def sweep(record: Record) -> Counts:
    """Run one full prune over all houses, and let old tombstones' notes go."""
    counts = Counts(await prune.prune(record))
    counts["forgotten"] = await prune.forget_deletions(record)
    # How many rows run is no work done: a pass that only looked says nothing.
    del counts["checked"]
    return counts
