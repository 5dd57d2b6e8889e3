"""Say where a thread's last dispatch stands, why, and what to do; read only."""

from typing import Final

from dispatch.ids import ThreadId
from dispatch.models import diagnosis
from dispatch.models import state as states
from dispatch.models.diagnosis import Diagnosis
from dispatch.models.houses import Caller
from dispatch.operations import authorize
from dispatch.operations.record import Record
from dispatch.streams import entries, lanes

_RECENT_ENTRIES: Final = 50


async def diagnose(record: Record, who: Caller, thread_id: ThreadId) -> Diagnosis:
    """Classify the last dispatch of a thread from its state, its last entries and the beats.

    Raises: NotFound, Gone, Unavailable.
    """
    await authorize.thread(record, who, thread_id)
    connection = record.connection
    state = states.from_fields(await entries.state_fields(connection, thread_id))
    recent = await entries.latest(connection, thread_id, limit=_RECENT_ENTRIES)
    worker_id = diagnosis.worker_of(state)
    return diagnosis.diagnose(
        state,
        recent,
        now_ms=await lanes.now_ms(connection),
        patience=record.settings,
        worker_beat_ms=await lanes.beat_at(connection, worker_id),
    )
