"""Followers who remember every durable entry they saw, and are hung up on without warning."""

import asyncio
import random
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from dispatch.errors import ArbeError, Gone, NotFound
from tests.chaos.books import Book
from tests.chaos.doors import Doors
from tests.chaos.load import Load

_FOLLOWERS: Final = 8
_STAY_SECONDS: Final = 40.0
"""With one thread; then the next."""
_PAUSE_SECONDS: Final = 0.2


@dataclass
class Seen:
    """What one follower saw of one thread, over all its connections."""

    thread_id: str
    durable: list[tuple[int, str]] = field(default_factory=list)
    """Sequence and id of each durable entry, in the order of arrival."""
    last_id: str | None = None
    connections: int = 0
    ended: bool = False
    """The API said that the thread is gone."""

    def take(self, entry: dict[str, Any]) -> None:
        """Remember one entry."""
        self.last_id = entry["id"]
        if "seq" in entry:
            self.durable.append((entry["seq"], entry["id"]))


@dataclass(eq=False)
class Followers:
    """All followers of a round."""

    doors: Doors
    load: Load
    seed: int
    seen: list[Seen] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    current: dict[int, Seen] = field(default_factory=dict)
    staying: bool = False
    """True: nobody moves on to another thread any more."""
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    _hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        """Let them begin."""
        for number in range(_FOLLOWERS):
            dice = random.Random(self.seed * 2000 + number)  # noqa: S311 - it must come again
            self._tasks.append(asyncio.create_task(self._follow_for_ever(number, dice)))

    def hang_up(self) -> None:
        """Close every connection of this moment."""
        self._hung_up.set()
        self._hung_up = asyncio.Event()

    async def close(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow_for_ever(self, number: int, dice: random.Random) -> None:
        while True:
            live = [book for book in self.load.live if book.posts]
            if not live:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            seen = Seen(dice.choice(live).thread_id)
            self.seen.append(seen)
            self.current[number] = seen
            await self._stay(seen, dice)

    async def _stay(self, seen: Seen, dice: random.Random) -> None:
        """Follow one thread, connection after connection."""
        loop = asyncio.get_running_loop()
        until = loop.time() + dice.uniform(0.5, 1.5) * _STAY_SECONDS
        while not seen.ended and (self.staying or loop.time() < until):
            line = asyncio.create_task(self._listen(seen))
            hung_up = asyncio.create_task(self._hung_up.wait())
            try:
                await asyncio.wait(
                    {line, hung_up},
                    timeout=dice.uniform(2.0, 20.0),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                line.cancel()
                hung_up.cancel()
                ends = await asyncio.gather(line, hung_up, return_exceptions=True)
            # What is not the API's answer is our own mistake.
            self.refusals += [repr(end) for end in ends if isinstance(end, Exception)]
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self, seen: Seen) -> None:
        """Hold one connection to one of the APIs, from where the last one ended."""
        seen.connections += 1
        client = self.doors.any()
        book: Book = self.load.books.threads[seen.thread_id]
        try:
            following = client.entries.follow(
                seen.thread_id, after=seen.last_id, patience_seconds=2.0
            )
            async with aclosing(following) as entries:
                async for entry in entries:
                    seen.take(entry)
            seen.ended = True
        except Gone:
            seen.ended = True
        except NotFound as error:
            # A row may go a moment before its stream does.
            if not book.deleting:
                self.refusals.append(str(error))
        except ArbeError:
            pass
        if seen.ended and not book.deleting:
            self.refusals.append(f"{seen.thread_id} was called gone")


async def catch_up(
    followers: Followers, lasts: dict[str, int], *, timeout_seconds: float
) -> None:
    """Wait until who follows a thread has seen its last durable entry, or the time is up."""

    def behind() -> bool:
        return any(
            not seen.ended and len(seen.durable) < lasts.get(seen.thread_id, 0)
            for seen in followers.current.values()
        )

    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            while behind():  # noqa: ASYNC110 - many things end it
                await asyncio.sleep(_PAUSE_SECONDS)
