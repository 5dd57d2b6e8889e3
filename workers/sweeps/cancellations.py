"""Go on with cancels that reach many dispatches, where their request left off or died."""

from dispatch import log
from dispatch.errors import ArbeError
from dispatch.ids import CancellationId
from dispatch.operations import walk_cancellation
from dispatch.operations.record import Record
from dispatch.stores.postgres import cancellations, engine
from workers.sweeps import Counts

_log = log.get(__name__)
_SECONDS_EACH = 5.0
"""A large cancel keeps the others waiting this long at most; it goes on in the next pass."""


async def sweep(record: Record) -> Counts:
    """Work at every open cancel that nobody holds; one that fails stops no other."""
    counts = Counts()
    after: CancellationId | None = None
    while True:
        async with engine.as_worker(record.projector) as connection:
            page = await cancellations.list_due(
                connection, after_id=after, limit=record.settings.sweep_batch
            )
        if not page:
            break
        counts.update([await _go_on(record, each) for each in page])
        after = page[-1]
    # That one is worked at elsewhere, or waits for a run to end, is no news.
    del counts["held"], counts["open"]
    return counts


async def _go_on(record: Record, cancellation_id: CancellationId) -> str:
    try:
        return await _work(record, cancellation_id)
    except ArbeError as error:
        fields = {"cancellation_id": str(cancellation_id), "cause": str(error)}
        _log.warning("cancellation.not_worked_at", **fields)
    except Exception:  # noqa: BLE001 - one row stops no other, nor the loop around this
        _log.exception("cancellation.failed", cancellation_id=str(cancellation_id))
    return "failed"


async def _work(record: Record, cancellation_id: CancellationId) -> str:
    async with engine.as_worker(record.projector) as connection:
        held = await cancellations.hold(
            connection,
            cancellation_id=cancellation_id,
            hold_seconds=walk_cancellation.HOLD_SECONDS,
        )
    if held is None:
        return "held"
    now = await walk_cancellation.work(record, held, seconds=_SECONDS_EACH)
    return "open" if now.done_at is None else "done"
