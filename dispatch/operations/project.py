"""Bring rows up to their streams; see `projection` for how."""

from collections.abc import Sequence
from functools import partial

from dispatch.ids import ThreadId
from dispatch.models.state import ThreadState
from dispatch.operations import delegations, projection
from dispatch.operations.record import Record


async def project(record: Record, thread_id: ThreadId) -> ThreadState:
    """Write status, usage and watermark of one thread; return its state.

    Raises: Unavailable.
    """
    return (await project_many(record, [thread_id]))[0]


async def project_many(record: Record, thread_ids: Sequence[ThreadId]) -> list[ThreadState]:
    """Write status, usage and watermark of some threads in one statement; return their states.

    What ended there is told to whoever gave it as a task. A thread without stream or without
    row is left alone. Raises: Unavailable.
    """
    return await projection.project(
        record.scripts,
        record.connection,
        record.projector,
        thread_ids,
        partial(delegations.tell_parents, record),
    )
