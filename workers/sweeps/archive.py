"""Move old entries out of Redis, and clear up in the archive.

A pass goes on where the last one stopped, whichever process made it; losing that place costs a
second look.
"""

from typing import Final

from dispatch.operations import archive_due, archive_leftovers
from dispatch.operations.record import Record
from dispatch.streams import archives
from workers.sweeps import Counts

_SECONDS: Final = 10.0
"""A third of the sweep's period: long threads keep the others waiting this long at most."""


async def sweep(record: Record) -> Counts:
    """Archive what is due in the next pages of threads; forget what nobody needs any more."""
    place = await archives.sweep_place(record.connection)
    done = await archive_due.archive_due(record, after_id=place, seconds=_SECONDS)
    await archives.keep_sweep_place(record.connection, done.next_after)
    counts = Counts(done.counts)
    counts += await archive_leftovers.forget_dropped(record)
    shard = await archives.next_shard(record.connection)
    counts += await archive_leftovers.forget_orphans(record, shard % archive_leftovers.SHARDS)
    # Those that were only looked at are no news.
    del counts["checked"], counts["due"]
    return counts
