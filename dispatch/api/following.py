"""One HTTP request that follows a thread: it ends with the client, the right, or the thread."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec
from starlette.types import Receive

from dispatch.config import Settings
from dispatch.ids import EntryId, ThreadId
from dispatch.streams.batches import Batch
from dispatch.streams.feed import Feed
from dispatch.streams.followers import Follower
from dispatch.streams.topics import Ending, Sink


class Following(msgspec.Struct, frozen=True):
    """What a request needs to follow a thread."""

    thread_id: ThreadId
    feed: Feed
    settings: Settings
    still_allowed: Callable[[], Awaitable[bool]]
    """Asked every `authorization_cache_seconds`; so it must not answer from a cache itself."""

    @contextlib.asynccontextmanager
    async def begin(self, after: EntryId, receive: Receive) -> AsyncGenerator["Watched"]:
        """Follow until the block is left; `Ending.LEFT` once the client hangs up.

        Raises: as `Feed.follow`; TimeoutError, if the block stops asking for more: then its
            client does not read. One clock for that is much cheaper than one for each send.
        """
        async with self.feed.follow(self.thread_id, after) as follower:
            watcher = asyncio.create_task(_watch(receive, follower))
            try:
                async with asyncio.timeout(None) as stalled:
                    yield Watched(follower, self, stalled)
            finally:
                watcher.cancel()


class Watched:
    """A follower that keeps asking whether it may still read."""

    def __init__(
        self, follower: Follower, following: Following, stalled: asyncio.Timeout
    ) -> None:
        self._follower = follower
        self._interval = following.settings.authorization_cache_seconds
        self._still_allowed = following.still_allowed
        self._stalled = stalled
        self._loop = asyncio.get_running_loop()
        self._check_at = 0.0
        self._wind(self._loop.time())

    @property
    def cursor(self) -> EntryId:
        """Return the id of the last entry handed out."""
        return self._follower.cursor

    def pour_into(self, sink: Sink) -> None:
        """Do as `Follower.pour_into`."""
        self._follower.pour_into(sink)

    async def next(self, *, until: float) -> Batch | Ending | None:
        """Return as `Follower.next` does; `Ending.LEFT` also when the right to read has ended.

        Raises: Unavailable, NotFound, and what `still_allowed` raises.
        """
        while True:
            answer = await self._follower.next(until=min(until, self._check_at))
            now = self._loop.time()
            if now >= self._check_at:
                if not await self._still_allowed():
                    return Ending.LEFT
                self._wind(now)
            if answer is not None or now >= until:
                return answer

    def _wind(self, now: float) -> None:
        # `next` comes by at `check_at`, unless its caller hangs in sending: it gets as long.
        self._check_at = now + self._interval
        self._stalled.reschedule(now + 2 * self._interval)


async def _watch(receive: Receive, follower: Follower) -> None:
    """End a follower when its client hangs up."""
    message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()
    follower.end(Ending.LEFT)
