"""Who calls, and may they see this thread? Row level security decides; a cache remembers."""

import hashlib

from dispatch.errors import Unauthenticated
from dispatch.ids import ThreadId
from dispatch.models.houses import Caller
from dispatch.models.threads import ThreadAccess
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, threads, tokens


def digest(token: str) -> str:
    """Return what is stored of a token: its SHA-256 (a token has 256 random bits itself)."""
    return hashlib.sha256(token.encode()).hexdigest()


async def caller(record: Record, token: str) -> Caller:
    """Return who a bearer token speaks for.

    Promise: a revoked token ends within `authorization_cache_seconds`.
    Raises: Unauthenticated, the same for unknown, wrong, expired and revoked.
    """
    if not token.startswith("arbe_"):
        raise Unauthenticated
    key = digest(token)
    remembered = record.callers.find(key)
    if remembered is not None:
        return remembered
    async with engine.as_nobody(record.members) as connection:
        found = await tokens.find_caller(connection, digest=key)
    if found is None:
        raise Unauthenticated
    return record.callers.keep(key, found)


async def thread(
    record: Record, who: Caller, thread_id: ThreadId, *, fresh: bool = False
) -> ThreadAccess:
    """Return proof that the caller may act on a thread.

    Args: fresh: ask Postgres even if an answer is remembered.
    Raises: NotFound (also for another house's thread), Gone.
    """
    key = (who.member_id, thread_id)
    remembered = None if fresh else record.accesses.find(key)
    if remembered is not None:
        return remembered
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await threads.access(connection, thread_id=thread_id, defaults=record.settings)
    return record.accesses.keep(key, found)
