"""Post an entry that came over the broker, from a service that may know nothing else.

Whoever may write to the broker may post, unless `trust_broker_producers` is off: then the
message must carry a member's token.
"""

import msgspec

from dispatch.errors import Unauthenticated
from dispatch.ids import ThreadId
from dispatch.operations import authorize, post_entry
from dispatch.operations.post_entry import Draft
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author
from dispatch.stores.postgres import engine, threads
from dispatch.streams.threads import Accepted


class ServiceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A producer's message."""

    thread_id: ThreadId
    draft: Draft
    key: str
    service: str
    token: str | None = None


async def post_as_service(record: Record, message: ServiceEntry) -> Accepted:
    """Append the entry and wake the agents it concerns; the same key makes no second entry.

    Raises: Unauthenticated, NotFound, Gone, Invalid, Conflict, TooBusy, Unavailable.
    """
    if message.token is not None:
        who = await authorize.caller(record, message.token)
        return await post_entry.post_entry(
            record, who, message.thread_id, message.draft, key=message.key
        )
    if not record.settings.trust_broker_producers:
        raise Unauthenticated
    async with engine.as_worker(record.projector) as connection:
        access = await threads.access(
            connection,
            thread_id=message.thread_id,
            defaults=record.settings,
        )
    await post_entry.require_taking(record, access, key=message.key)
    by = Author("service", message.service[:64])
    return await post_entry.accept(record, access, message.draft, by=by, key=message.key)
