"""Remove threads that have expired (`expires_at`) and do not run, with all below them."""

from typing import Final

from dispatch.operations import cleanup
from dispatch.operations.record import Record
from workers.sweeps import Counts

_MAX_BATCHES: Final = 10
"""Bounds one pass to seconds; what is left has expired in the next, too."""
_NO_NEWS: Final = ("running", "changed")


async def sweep(record: Record, *, dry_run: bool = False) -> Counts:
    """Go once through what has expired, oldest first; a dry run counts `removable`."""
    counts = Counts(await cleanup.expire(record, dry_run=dry_run, max_batches=_MAX_BATCHES))
    for verdict in _NO_NEWS:
        del counts[verdict]
    return counts
