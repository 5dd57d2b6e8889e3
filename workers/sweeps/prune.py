"""Repair what stands still: rows that say `running`, deletions left half done, old keys."""

from dispatch.operations import idempotency, outputs, prune
from dispatch.operations.record import Record
from workers.sweeps import Counts


async def sweep(record: Record) -> Counts:
    """Run one full prune over all houses; let old notes, outputs and used keys go."""
    counts = Counts(await prune.prune(record))
    counts["forgotten"] = await prune.forget_deletions(record)
    counts["forgotten"] += await prune.forget_cancellations(record)
    counts["forgotten"] += await outputs.forget(record)
    counts["keys"] = await idempotency.forget(record)
    # How many rows run is no work done: a pass that only looked says nothing.
    del counts["checked"]
    return counts
