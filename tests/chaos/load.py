"""People who post, cancel, open threads and delete them, without a pause worth mentioning.

Whoever has chosen a key stays with it until it is answered, however often the API dies; only
then is there anything to be held against the system.
"""

import asyncio
import random
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from dispatch.errors import ArbeError, Gone
from tests.chaos.books import Book, Books, Post, ThreadKind
from tests.chaos.doors import Doors
from tests.chaos.events import FaultLog, now_ms
from tests.chaos.orders import Orders

_POSTERS: Final = 6
_OPEN_THREADS: Final = 3
"""Per poster: two posters never share one, so a thread's queue stays short."""
_MAX_POSTS: Final = 20
"""Per thread; some have enough after three, so that also a short round retires threads."""
_PAUSE_SECONDS: Final = 0.4
_CANCEL: Final = 0.12
_DELETE: Final = 0.4
"""Of the threads that have had their posts; the rest is read at the end."""
_KINDS: Final[tuple[ThreadKind, ...]] = (
    "demo", "chaos", "demo", "again", "chaos", "room", "demo", "chaos",
)  # fmt: skip


@dataclass(eq=False)
class Load:
    """Everybody who wants something of the system, and what they share."""

    doors: Doors
    books: Books
    agents: dict[str, str]
    """Handle → id."""
    log: FaultLog
    seed: int
    orders: Orders = field(default_factory=Orders)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    live: list[Book] = field(default_factory=list)
    """Threads that are being posted to."""
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def start(self) -> None:
        """Let everybody begin."""
        for number in range(_POSTERS):
            dice = random.Random(self.seed * 1000 + number)  # noqa: S311 - it must come again
            self._begin(Poster(self, dice).post_until_stopped())

    async def stop(self, *, timeout_seconds: float) -> None:
        """Ask everybody to end what they began.

        Raises: AssertionError, if somebody's call is not answered in time.
        """
        self.stopped.set()
        _, late = await asyncio.wait(self._tasks, timeout=timeout_seconds)
        for task in late:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert not late, f"{len(late)} calls without an answer from a healed system"
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def poison(self, how: str) -> None:
        """Let somebody post what kills the worker process that takes it."""
        book = next((book for book in self.live if book.kind in {"chaos", "again"}), None)
        if book is not None:
            self._begin(self._poison(book, how))

    async def create(
        self, kind: ThreadKind, *, parent: str | None, agents: list[str], tags: list[str]
    ) -> Book:
        """Make a thread that lives until somebody retires it."""
        key = secrets.token_hex(8)
        made = await self.doors.insist(
            lambda client: client.threads.create(parent=parent, key=key, tags=tags)
        )
        book = Book(made["thread"]["id"], kind, [self.agents[handle] for handle in agents])
        self.books.threads[book.thread_id] = book
        return book

    async def post(self, book: Book, text: str) -> Post:
        """Post one entry; what becomes of it stands in the books."""
        post = Post(book.thread_id, secrets.token_hex(8), text, now_ms())
        book.posts.append(post)
        try:
            answer = await self.doors.insist(
                lambda client: client.entries.create(post.thread_id, text, key=post.key)
            )
        except ArbeError as error:
            post.refusal = error.code
            if not (isinstance(error, Gone) and book.deleting):
                self.refused(error)
            return post
        _accepted(post, answer)
        return post

    def refused(self, error: ArbeError) -> None:
        """Remember an answer that nobody deserved."""
        self.log.note("refused", error.code, str(error))
        self.books.refusals.append(f"{now_ms()} {type(error).__name__} {error}")

    async def _poison(self, book: Book, how: str) -> None:
        await self.post(book, self.orders.poison(how))

    def _begin(self, life: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(life))


@dataclass(eq=False)
class Poster:
    """One of them, with a few threads of its own."""

    load: Load
    dice: random.Random
    mine: list[Book] = field(default_factory=list)

    async def post_until_stopped(self) -> None:
        """Go on until it is enough."""
        while not self.load.stopped.is_set():
            try:
                await self._do_something()
            except ArbeError as error:
                self.load.refused(error)
            await asyncio.sleep(self.dice.uniform(0.2, 1.8) * _PAUSE_SECONDS)

    async def _do_something(self) -> None:
        while len(self.mine) < _OPEN_THREADS:
            self.mine.append(await self._open_thread())
        book = self.dice.choice(self.mine)
        post = await self.load.post(book, self.load.orders.make(book.kind, self.dice))
        if post.dispatches and self.dice.random() < _CANCEL:
            await self._cancel(book, self.dice.choice(post.dispatches))
        if self.dice.random() < len(book.posts) / _MAX_POSTS**1.5:
            self.mine.remove(book)
            await self._retire(book)

    async def _open_thread(self) -> Book:
        kind = self.dice.choice(_KINDS)
        book = await self._create(kind)
        self.load.live.append(book)
        return book

    async def _create(self, kind: ThreadKind) -> Book:
        make = self.load.create
        if kind != "room":
            return await make(kind, parent=f"@{kind}", agents=[kind], tags=[kind])
        both = ["demo", "chaos"]
        room = await make("room", parent=None, agents=both, tags=[])
        if self.dice.random() < 0.5:
            return room
        # Its parent gets nothing, but takes it along when it is deleted.
        child = await make("child", parent=room.thread_id, agents=both, tags=[])
        room.children.append(child)
        return child

    async def _cancel(self, book: Book, dispatch_id: str) -> None:
        await asyncio.sleep(self.dice.choice([0.0, 0.1, 0.7]))
        answer = await self.load.doors.insist(
            lambda client: client.threads.cancel(book.thread_id, dispatch_id, message="chaos")
        )
        book.cancelled[dispatch_id] = str(answer["status"])

    async def _retire(self, book: Book) -> None:
        """Post there no more; perhaps delete it, most likely while an agent works there."""
        self.load.live.remove(book)
        if self.dice.random() >= _DELETE:
            return
        every = self.load.books.threads.values()
        top = next((each for each in every if book in each.children), book)
        family = [top, *top.children]
        for each in family:
            each.deleting = True
        await self.load.doors.insist(lambda client: client.threads.delete(top.thread_id))
        for each in family:
            each.deleted = True


def _accepted(post: Post, answer: dict[str, Any]) -> None:
    post.entry_id = answer["entry"]["id"]
    post.dispatches = [each["id"] for each in answer["dispatches"]]
