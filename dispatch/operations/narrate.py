"""Tell on a stream what was done to rows: a house's story lands on its primary thread.

The row is the truth and is written first. `ready` is asked before it, so that a Redis that is
away refuses the whole change; a Redis that goes away in between costs the sentence only.
"""

from dispatch import log, payloads
from dispatch.errors import ArbeError, NotFound
from dispatch.ids import ThreadId
from dispatch.models.houses import Caller
from dispatch.operations import open_stream
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import ThreadCreated
from dispatch.streams import threads as streams

_log = log.get(__name__)


def author(who: Caller) -> Author:
    """Return a caller as a stream names people."""
    return Author("member", str(who.member_id), who.name)


async def ready(record: Record) -> None:
    """Return if Redis answers.

    Raises: Unavailable, before anything was written.
    """
    await record.connection.call("PING")


async def birth(record: Record, thread_id: ThreadId, *, by: Author, name: str | None) -> None:
    """Open the stream of a row just made; if it cannot be, its first writer will open it."""
    try:
        await streams.create(record.scripts, thread_id, ThreadCreated(by=by, name=name))
    except ArbeError as error:
        _log.warning("stream.not_opened", thread_id=str(thread_id), cause=error.code)


async def tell(record: Record, thread_id: ThreadId, payload: payloads.KnownPayload) -> None:
    """Append one signal about a change that stands already."""
    try:
        await _signal(record, thread_id, payload)
    except ArbeError as error:
        _log.warning("signal.not_told", thread_id=str(thread_id), cause=error.code)


async def _signal(record: Record, thread_id: ThreadId, payload: payloads.KnownPayload) -> None:
    try:
        await streams.signal(record.scripts, thread_id, payload)
    except NotFound:
        await open_stream.open_stream(record, thread_id)
        await streams.signal(record.scripts, thread_id, payload)
