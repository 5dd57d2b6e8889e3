"""The feed: everything this process follows, over one pub/sub connection to Redis.

    script ──PUBLISH──▶ subscriber ──▶ topic (ring of frames) ──▶ followers, each at its place
                                         ▲
    stream ──XRANGE (catch up, resync)───┘

Promise: a follower gets every entry after its cursor once, in order. A topic first waits until
Redis has confirmed the subscription, then learns where the stream ends; what is published from
there on is in its ring, and everything before is read from the stream, or its archive. After
a broken connection each topic reads what it missed before it goes on.
Not guaranteed: chunks and heartbeats deleted before a follower came to them.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Final

from dispatch.config import Settings
from dispatch.errors import Gone, NotFound, TooBusy, Unavailable
from dispatch.ids import EntryId, ThreadId
from dispatch.streams import entries, keys
from dispatch.streams.batches import Batch, Reader
from dispatch.streams.followers import Follower
from dispatch.streams.subscriber import Subscriber
from dispatch.streams.topics import Ending, Topic
from dispatch.streams.whole import Entries

_LINGER_SECONDS: Final = 10.0
"""A topic nobody follows stays subscribed this long: longer than a reconnect takes."""
_RETRY_SECONDS: Final = 0.5
_GONE: Final = b'{"gone":true}'


class Feed:
    """One per process. Make it inside a running loop; close it before the server stops."""

    def __init__(self, whole: Entries, *, settings: Settings) -> None:
        self._connection = whole.connection
        self._settings = settings
        self._reader = Reader(whole, max_entries=settings.read_chunk_entries)
        self._subscriber = Subscriber(
            settings.stream_url.get_secret_value(),
            self,
            timeout_seconds=settings.stream_timeout_seconds,
        )
        self._topics: dict[str, Topic] = {}
        self._followers = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def follower_count(self) -> int:
        """Return how many followers this process serves now."""
        return self._followers

    async def read(self, thread_id: ThreadId, after: EntryId) -> Batch:
        """Return one batch of what follows a place, without following.

        Raises: Gone, NotFound, Unavailable.
        """
        return await self._reader.read(thread_id, after)

    @contextlib.asynccontextmanager
    async def follow(self, thread_id: ThreadId, after: EntryId) -> AsyncGenerator[Follower]:
        """Follow a thread from a place on; leaving the block ends it.

        Raises: Gone, NotFound, Unavailable; TooBusy, beyond `max_followers` of this process or
            `max_followers_per_thread`, or while it shuts down.
        """
        topic = self._topic(thread_id)
        follower = Follower(topic, after, reader=self._reader)
        self._followers += 1
        topic.places.add(follower.place)
        try:
            await self._in_step(topic)
            yield follower
        finally:
            follower.leave()
            self._followers -= 1
            topic.places.discard(follower.place)
            if not topic.places and not self._closing:
                asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._let_go, topic)

    async def close(self) -> None:
        """End all followers with `Ending.CLOSING` and disconnect. Repeatable."""
        self._closing = True
        for topic in self._topics.values():
            topic.end(Ending.CLOSING)
        self._topics.clear()
        for task in self._tasks:
            task.cancel()
        await self._subscriber.close()

    def subscribed(self, channel: str) -> None:
        """Bring a topic in step, now that nothing more can be missed (see `Listener`)."""
        topic = self._topics.get(channel)
        if topic is not None:
            # Out of step at once, not when the task starts: messages may follow this answer.
            self._start(self._sync(topic, topic.out_of_step()))

    def heard(self, channel: str, message: bytes) -> None:
        """Hand a published message to its topic (see `Listener`)."""
        topic = self._topics.get(channel)
        if topic is None or topic.epoch == 0:
            return
        if message == _GONE:
            self._end(topic, Ending.GONE)
        else:
            topic.hear([entries.wire_of(line) for line in message.split(b"\n")])

    def lost(self) -> None:
        """Mark every topic as out of step (see `Listener`)."""
        for topic in self._topics.values():
            topic.out_of_step()

    def _topic(self, thread_id: ThreadId) -> Topic:
        channel = keys.stream(thread_id)
        topic = self._topics.get(channel)
        self._require_room(len(topic.places) if topic is not None else 0)
        if topic is None:
            topic = self._topics[channel] = Topic(
                thread_id, channel, max_lag_bytes=self._settings.max_follower_lag_bytes
            )
            self._subscriber.want(channel)
        return topic

    def _require_room(self, on_thread: int) -> None:
        if self._closing:
            raise TooBusy("This process is shutting down.", retry_after_seconds=1.0)
        if self._followers >= self._settings.max_followers:
            raise TooBusy(
                f"This process serves {self._followers} followers (ARBE_MAX_FOLLOWERS).",
                retry_after_seconds=5.0,
            )
        if on_thread >= self._settings.max_followers_per_thread:
            raise TooBusy(
                f"This thread has {on_thread} followers (ARBE_MAX_FOLLOWERS_PER_THREAD).",
                retry_after_seconds=5.0,
            )

    async def _in_step(self, topic: Topic) -> None:
        """Wait until the topic knows its floor; raise what it found instead."""
        try:
            async with asyncio.timeout(self._settings.stream_timeout_seconds):
                await topic.ready.wait()
        except TimeoutError as error:
            raise Unavailable("Redis", cause="no subscription") from error
        match topic.ending:
            case Ending.GONE:
                raise Gone(str(topic.thread_id))
            case Ending.MISSING:
                raise NotFound("thread", str(topic.thread_id))
            case _:
                pass

    async def _sync(self, topic: Topic, epoch: int) -> None:
        """Let a topic know all that the stream holds, then what was heard meanwhile.

        Promise: gives up only when the subscription is another one, which has its own `_sync`.
        """
        while topic.epoch == epoch and not topic.in_step and topic.ending is None:
            try:
                await self._read_missed(topic, epoch)
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            except Gone:
                self._end(topic, Ending.GONE)
            except NotFound:
                self._end(topic, Ending.MISSING)

    async def _read_missed(self, topic: Topic, epoch: int) -> None:
        if topic.floor is None:
            floor = await entries.tail(self._connection, topic.thread_id)
            if topic.epoch != epoch:
                return
            topic.begin(floor)
            up_to_date = True
        else:
            batch = await self._reader.read(topic.thread_id, topic.last)
            topic.push(batch.frames)
            up_to_date = batch.up_to_date
        if up_to_date and topic.epoch == epoch:
            topic.catch_up()

    def _end(self, topic: Topic, ending: Ending) -> None:
        topic.end(ending)
        self._forget(topic)

    def _let_go(self, topic: Topic) -> None:
        if not topic.places and self._topics.get(topic.channel) is topic:
            self._forget(topic)

    def _forget(self, topic: Topic) -> None:
        if self._topics.get(topic.channel) is topic:
            del self._topics[topic.channel]
            if not self._closing:
                self._subscriber.drop(topic.channel)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
