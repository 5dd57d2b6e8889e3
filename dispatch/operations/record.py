"""The record as one process holds it: its settings, its connections, its caches."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from dispatch import transport
from dispatch.chats import ChatManager, open_storage
from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.ids import MemberId, ThreadId
from dispatch.models.houses import Caller
from dispatch.models.threads import ThreadAccess
from dispatch.operations import revalidate
from dispatch.operations.archived import ArchivedEntries
from dispatch.operations.remembered import Remembered
from dispatch.operations.visible_threads import VisibleThreads
from dispatch.stores.postgres import engine, threads
from dispatch.streams.connection import Connection
from dispatch.streams.feed import Feed
from dispatch.streams.scripts import Scripts
from dispatch.streams.whole import Entries
from dispatch.transport import Transport


class Record:
    """Everything an operation needs. Make it inside a running loop with `open_record`."""

    chats: ChatManager
    """ARC's chats, while `open_record` holds their storage open; a worker's record has none."""

    def __init__(self, settings: Settings) -> None:
        database_url = _required(settings.database_url.get_secret_value(), "DATABASE_URL")
        stream_url = _required(settings.stream_url.get_secret_value(), "STREAM_URL")
        self.settings = settings
        self.members: engine.Engine = engine.make_engine(
            database_url, role="arbe_api", settings=settings
        )
        """Postgres under row level security, for what callers ask."""
        self.projector: engine.Engine = engine.make_engine(
            database_url, role="arbe_worker", settings=settings
        )
        """Postgres as the hands see it: every thread, few columns."""
        self.connection = Connection(
            stream_url, timeout_seconds=settings.stream_timeout_seconds
        )
        self.scripts = Scripts(self.connection, revalidate=self.revalidate)
        self.archived = ArchivedEntries(self.projector)
        self.entries = Entries(self.connection, self.archived)
        """Whole streams, archived entries and live ones."""
        self.feed = Feed(self.entries, settings=settings)
        """Everything this process follows; it connects at the first follower."""
        self._broker = self._broker_connection(stream_url)
        self.transport = Transport(settings, push=self._push if self._broker else None)
        ttl_seconds = settings.authorization_cache_seconds
        self.callers: Remembered[str, Caller] = Remembered(ttl_seconds)
        self.accesses: Remembered[tuple[MemberId, ThreadId], ThreadAccess] = Remembered(
            ttl_seconds
        )
        self.rows_answered = True
        """What this process last saw of Postgres when a run needed it."""
        self.visible = VisibleThreads(self._list_visible)

    def forget(self) -> None:
        """Drop what is remembered about tokens and threads, after a change made here."""
        self.callers.forget_all()
        self.accesses.forget_all()

    async def revalidate(self, thread_id: ThreadId) -> None:
        """Compare a thread's stream with its row, after Redis started anew or lost it."""
        await revalidate.revalidate(
            self.scripts,
            self.connection,
            self.projector,
            self.archived,
            thread_id,
            tombstone_seconds=self.settings.tombstone_seconds,
        )

    async def _list_visible(
        self, member_id: MemberId, thread_ids: set[ThreadId]
    ) -> frozenset[ThreadId]:
        async with engine.as_member(self.members, member_id) as connection:
            return await threads.list_visible(connection, thread_ids=thread_ids)

    def _broker_connection(self, stream_url: str) -> Connection | None:
        """Return a way to a Redis broker; the stream's own if it is that Redis."""
        if not transport.uses_redis(self.settings):
            return None
        if self.settings.broker == stream_url:
            return self.connection
        return Connection(
            self.settings.broker, timeout_seconds=self.settings.stream_timeout_seconds
        )

    async def _push(
        self, queue: str, messages: list[bytes], *, only_seconds: float | None = None
    ) -> None:
        if self._broker is None:
            return
        pushed = self._broker.call("LPUSH", queue, *messages)
        if only_seconds is None:
            await pushed
            return
        kept = self._broker.call("LTRIM", queue, 0, 0)
        expires = self._broker.call("PEXPIRE", queue, int(only_seconds * 1000))
        await asyncio.gather(pushed, kept, expires)

    async def close(self) -> None:
        """Let calls under way end and give every connection back."""
        await self.feed.close()
        await self.transport.close()
        if self._broker is not None:
            await self._broker.close()
        await self.connection.close()
        await self.members.dispose()
        await self.projector.dispose()


@asynccontextmanager
async def open_record(settings: Settings) -> AsyncGenerator[Record]:
    """Hold a record open for the length of a block."""
    record = Record(settings)
    try:
        async with open_storage(settings, database=record.members) as storage:
            record.chats = ChatManager("arbe", storage)
            yield record
    finally:
        await record.close()


def _required(value: str, name: str) -> str:
    if not value:
        raise Invalid(
            f"{name} is not set.",
            next_step=f"Set {name}, or start everything on this machine with `arbe up`.",
        )
    return value
