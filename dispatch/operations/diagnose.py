"""Say where a thread's last dispatch stands, why, and what to do; read only."""

from dispatch.ids import ThreadId
from dispatch.models import diagnosis
from dispatch.models import state as states
from dispatch.models.diagnosis import Diagnosis
from dispatch.models.houses import Caller
from dispatch.operations import authorize
from dispatch.operations.record import Record
from dispatch.streams import entries, lanes

_RECENT_ENTRIES = 50


async def diagnose(record: Record, who: Caller, thread_id: ThreadId) -> Diagnosis:
    """Classify the last dispatch of a thread from its state, its last entries and the beats.

    Raises: NotFound, Gone, Unavailable.
    """
    await authorize.thread(record, who, thread_id)
    connection = record.connection
    state = states.from_fields(await entries.state_fields(connection, thread_id))
    recent = await entries.latest(connection, thread_id, limit=_RECENT_ENTRIES)
    beats: dict[str, int] = {}
    for lane in state.lanes.values():
        if lane.run is not None:
            beat = await lanes.beat_at(connection, lane.run.worker_id)
            if beat is not None:
                beats[lane.run.worker_id] = beat
    return diagnosis.diagnose(
        state,
        recent,
        now_ms=await lanes.now_ms(connection),
        worker_beats_ms=beats,
        settings=record.settings,
    )
