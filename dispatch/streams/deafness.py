"""Which worker processes say of themselves that they hear nothing from the broker.

A deaf process beats on, since it keeps its runs; this says beside the beat that it takes no new
work. Not guaranteed: that a process which says nothing hears; it notices only after a while.
"""

from collections.abc import Sequence

from dispatch.ids import WorkerId
from dispatch.streams import keys
from dispatch.streams.connection import Connection


async def say(connection: Connection, worker_id: WorkerId, *, for_seconds: float) -> None:
    """Say that a process is deaf; forgotten unless it says so again in that time."""
    await connection.call("SET", keys.deaf(worker_id), 1, "PX", int(for_seconds * 1000))


async def list_deaf(
    connection: Connection, worker_ids: Sequence[WorkerId]
) -> frozenset[WorkerId]:
    """Return those of these processes that are deaf."""
    if not worker_ids:
        return frozenset()
    found = await connection.call("MGET", *(keys.deaf(each) for each in worker_ids))
    return frozenset(
        each for each, said in zip(worker_ids, found, strict=True) if said is not None
    )
