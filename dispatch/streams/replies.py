"""The index of turns whose answers may name agents that nobody has woken yet.

A turn is noted before it ends, so that whoever dies after its end leaves the note. The note
decides nothing: the stream tells whether the turn ended, and what it said.
"""

from uuid import UUID

import msgspec

from dispatch.ids import DispatchId, ThreadId
from dispatch.streams import keys, lanes
from dispatch.streams.connection import Connection


class ReplyRef(msgspec.Struct, frozen=True):
    """A turn whose answer is to be passed on."""

    thread_id: ThreadId
    dispatch_id: DispatchId

    @property
    def member(self) -> str:
        """Return its name in the index."""
        return f"{self.thread_id}|{self.dispatch_id}"


async def note(connection: Connection, ref: ReplyRef, *, after_seconds: float) -> None:
    """Let a sweep look at the turn after that time; repeating only puts it off."""
    at = await lanes.now_ms(connection) + int(after_seconds * 1000)
    await connection.call("ZADD", keys.REPLIES, at, ref.member)


async def settle(connection: Connection, ref: ReplyRef) -> None:
    """Forget a turn whose answer was passed on, or has nobody to be passed to."""
    await connection.call("ZREM", keys.REPLIES, ref.member)


async def list_due(connection: Connection, *, limit: int) -> list[ReplyRef]:
    """Return turns that somebody must look at now, the longest due first."""
    now = await lanes.now_ms(connection)
    found = await connection.call("ZRANGEBYSCORE", keys.REPLIES, "-inf", now, "LIMIT", 0, limit)
    return [_ref(member) for member in found]


def _ref(member: bytes) -> ReplyRef:
    thread_id, _, dispatch_id = member.decode().partition("|")
    return ReplyRef(ThreadId(UUID(thread_id)), DispatchId(dispatch_id))
