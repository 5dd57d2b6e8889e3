"""A thread to follow, and ways to write to it and to collect what a follower gets."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from dispatch import ids
from dispatch.config import Settings
from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.signals import ThreadCreated
from dispatch.streams import threads
from dispatch.streams.batches import Batch
from dispatch.streams.connection import Connection
from dispatch.streams.feed import Feed
from dispatch.streams.followers import Follower
from dispatch.streams.scripts import Scripts
from dispatch.streams.topics import Ending

ANN = Author("member", "ann")


class Writer:
    """Writes to one Redis as the API would."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.scripts = Scripts(connection)

    async def create(self, *texts: str) -> ThreadId:
        thread_id = ThreadId(ids.uuid7())
        await threads.create(self.scripts, thread_id, ThreadCreated())
        for text in texts:
            await self.post(thread_id, text)
        return thread_id

    async def post(self, thread_id: ThreadId, text: str) -> EntryId:
        accepted = await threads.accept(
            self.scripts,
            thread_id,
            Chat(by=ANN, text=text),
            key=str(ids.uuid7()),
            body=text.encode(),
            lanes=(),
            settings=self.settings,
        )
        return accepted.entry_id

    async def delete(self, thread_id: ThreadId) -> None:
        await threads.delete(self.scripts, thread_id, tombstone_seconds=60)


class Followed(msgspec.Struct):
    """What one follower got."""

    texts: list[str] = []
    entry_ids: list[str] = []
    ending: Ending | None = None


def read(batch: Batch, into: Followed) -> None:
    for frame in batch.frames:
        entry = msgspec.json.decode(frame)
        into.entry_ids.append(entry["id"])
        if entry["payload"]["type"] == "chat":
            into.texts.append(entry["payload"]["text"])


async def pump(follower: Follower, into: Followed) -> None:
    loop = asyncio.get_running_loop()
    while into.ending is None:
        match await follower.next(until=loop.time() + 30):
            case Batch() as batch:
                read(batch, into)
            case Ending() as ending:
                into.ending = ending
            case None:
                return


@contextlib.asynccontextmanager
async def following(
    feed: Feed, thread_id: ThreadId, after: EntryId = BEGINNING
) -> AsyncIterator[Followed]:
    """Follow in the background; the follower stands when the block begins."""
    into = Followed()
    async with feed.follow(thread_id, after) as follower:
        task = asyncio.create_task(pump(follower, into))
        try:
            yield into
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def wait_until(true: Callable[[], bool], *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)
