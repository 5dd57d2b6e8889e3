"""One HTTP request that follows a thread: it ends with the client, the right, or the thread."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

import msgspec
from starlette.types import Receive

from dispatch.config import Settings
from dispatch.errors import ArbeError, Unavailable
from dispatch.ids import EntryId, ThreadId
from dispatch.streams.batches import Batch
from dispatch.streams.feed import Feed
from dispatch.streams.followers import Follower
from dispatch.streams.topics import Ending, Sink

_PHASES: Final = 997
"""Rhythms are spread over the interval in this many steps."""


class Following(msgspec.Struct, frozen=True):
    """What a request needs to follow a thread."""

    thread_id: ThreadId
    feed: Feed
    settings: Settings
    still_allowed: Callable[[], Awaitable[bool]]
    """Asked every `authorization_cache_seconds`; so it must not answer from a cache itself."""
    rhythm: int = 0
    """Followers of one rhythm ask at the same moments: one statement can answer them all."""

    @contextlib.asynccontextmanager
    async def begin(self, after: EntryId, receive: Receive) -> AsyncGenerator["Watched"]:
        """Follow until the block is left; `Ending.LEFT` once the client hangs up.

        Raises: as `Feed.follow`; TimeoutError, if the block stops asking for more: then its
            client does not read. One clock for that is much cheaper than one for each send.
        """
        async with self.feed.follow(self.thread_id, after) as follower:
            watcher = asyncio.create_task(_watch(receive, follower))
            watched = Watched(follower, self)
            try:
                async with asyncio.timeout(None) as stalled:
                    watched.wind(stalled)
                    yield watched
            finally:
                watched.leave()
                watcher.cancel()


class Watched:
    """A follower that keeps asking whether it may still read."""

    def __init__(self, follower: Follower, following: Following) -> None:
        self._follower = follower
        self._still_allowed = following.still_allowed
        self._interval = following.settings.authorization_cache_seconds
        self._phase = following.rhythm % _PHASES / _PHASES
        self._loop = asyncio.get_running_loop()
        self._check_at = 0.0
        self._checking: asyncio.Task[None] | None = None
        self._stalled: asyncio.Timeout | None = None

    @property
    def cursor(self) -> EntryId:
        """Return the id of the last entry handed out."""
        return self._follower.cursor

    def pour_into(self, sink: Sink) -> None:
        """Do as `Follower.pour_into`."""
        self._follower.pour_into(sink)

    def wind(self, stalled: asyncio.Timeout) -> None:
        """Start the clocks; `stalled` goes off if `next` is not called any more."""
        self._stalled = stalled
        self._wind(self._loop.time())

    def leave(self) -> None:
        """Stop asking."""
        if self._checking is not None:
            self._checking.cancel()

    async def next(self, *, until: float) -> Batch | Ending | None:
        """Return as `Follower.next` does; `Ending.LEFT` also when the right to read has ended.

        Raises: Unavailable, NotFound.
        """
        while True:
            answer = await self._follower.next(until=min(until, self._check_at))
            now = self._loop.time()
            if now >= self._check_at:
                self._begin_check()
                self._wind(now)
            if answer is not None or now >= until:
                return answer

    def _begin_check(self) -> None:
        """Ask beside the waiting, so that nobody waits for the answer but who must not read."""
        if self._checking is not None and not self._checking.done():
            # Nobody knows for two intervals: that is no right to read.
            self._follower.end(Ending.LEFT)
            return
        self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        allowed = False
        try:
            allowed = await self._still_allowed()
        except Unavailable:
            # Rights live in Postgres: while it is away nobody can have lost one.
            allowed = True
        except ArbeError:
            allowed = False
        finally:
            if not allowed:
                self._follower.end(Ending.LEFT)

    def _wind(self, now: float) -> None:
        # `next` comes by at `check_at`, unless its caller hangs in sending: it gets as long.
        beats = math.floor(now / self._interval - self._phase) + 1
        self._check_at = (beats + self._phase) * self._interval
        if self._stalled is not None:
            self._stalled.reschedule(now + 2 * self._interval)


async def _watch(receive: Receive, follower: Follower) -> None:
    """End a follower when its client hangs up."""
    message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()
    follower.end(Ending.LEFT)
