"""Pass on the answers whose worker died between its turn's end and the entry they become."""

from dispatch import log
from dispatch.errors import ArbeError
from dispatch.operations import pass_on
from dispatch.operations.record import Record
from dispatch.streams import replies
from dispatch.streams.replies import ReplyRef
from workers.sweeps import Counts

_log = log.get(__name__)


async def sweep(record: Record) -> Counts:
    """Look at each turn whose note is due; one that fails stops no other."""
    due = await replies.list_due(record.connection, limit=record.settings.sweep_batch)
    counts = Counts([await _pass_on(record, ref) for ref in due])
    # A turn that has not ended, or named nobody, is no news.
    del counts["open"], counts["nobody"]
    return counts


async def _pass_on(record: Record, ref: ReplyRef) -> str:
    try:
        return await pass_on.pass_on(record, ref)
    except ArbeError as error:
        fields = {"thread_id": str(ref.thread_id), "dispatch_id": ref.dispatch_id}
        _log.warning("reply.not_passed_on", cause=str(error), **fields)
        return "unavailable"
