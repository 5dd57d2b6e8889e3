"""What people do, in calls that are made until they are answered.

Whoever has chosen a key stays with it until it is answered, however often the API dies; only
then is there anything to be held against the system.
"""

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from dispatch.client import Client
from dispatch.errors import ArbeError, Conflict, Gone
from tests.chaos.books import Book, Books, Post, ThreadKind
from tests.chaos.doors import Doors
from tests.chaos.events import FaultLog, now_ms
from tests.chaos.orders import Orders

_UNHEARD: Final = 6
_CHAOTIC: Final = frozenset({"chaos", "again"})
_AGENT_KINDS: Final = _CHAOTIC | {"demo"}


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

    def begin(self, life: Coroutine[Any, Any, None]) -> None:
        """Let somebody do something; `stop` waits for it."""
        self._tasks.append(asyncio.create_task(life))

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
        book = next((book for book in self.live if book.kind in _CHAOTIC), None)
        if book is not None:
            self.begin(self._say(book, self.orders.poison(how)))

    def unheard(self) -> list[Post]:
        """Make a post for each of some threads; whoever sends it will hear no answer."""
        posts = [
            Post(
                book.thread_id,
                secrets.token_hex(8),
                self.orders.slow(book.kind),
                is_heard=False,
            )
            for book in self.live[:_UNHEARD]
            if book.kind in _AGENT_KINDS
        ]
        for post in posts:
            self.books.threads[post.thread_id].posts.append(post)
        return posts

    def occupy(self) -> None:
        """Give every lane something to do that takes a while."""
        for book in self.live:
            if book.kind in _AGENT_KINDS:
                self.begin(self._say(book, self.orders.slow(book.kind)))

    async def create(self, kind: ThreadKind, *, parent: str | None, agents: list[str]) -> Book:
        """Make a thread; a second one, whatever dies meanwhile, would be nobody's."""
        key = secrets.token_hex(8)
        made = await self.doors.insist(
            lambda client: client.threads.create(
                parent=parent, tags=[kind], idempotency_key=key
            )
        )
        book = Book(made["thread"]["id"], kind, [self.agents[handle] for handle in agents])
        self.books.threads[book.thread_id] = book
        return book

    async def post(
        self, book: Book, text: str, *, when_busy: str | None = None, is_twice: bool = False
    ) -> Post:
        """Post one entry; what becomes of it stands in the books."""
        post = Post(book.thread_id, secrets.token_hex(8), text)
        book.posts.append(post)

        async def try_once(client: Client) -> dict[str, Any]:
            post.tries += 1
            return await client.entries.create(
                post.thread_id, text, key=post.key, when_busy=when_busy
            )

        try:
            if is_twice:
                # The same key at both doors at once: one entry, two answers.
                answers = await asyncio.gather(*(self.doors.insist(try_once) for _ in range(2)))
                if answers[0]["entry"] != answers[1]["entry"]:
                    self.books.refusals.append(f"one key, two entries: {answers}")
            else:
                answers = [await self.doors.insist(try_once)]
            _accepted(post, answers[0])
        except ArbeError as error:
            post.refusal = error.code
            if not _was_to_be_expected(error, book, when_busy):
                self.refused(error)
        return post

    def refused(self, error: ArbeError) -> None:
        """Remember an answer that nobody deserved."""
        self.log.note("refused", error.code, str(error))
        self.books.refusals.append(f"{now_ms()} {type(error).__name__} {error}")

    async def _say(self, book: Book, text: str) -> None:
        await self.post(book, text)


def _was_to_be_expected(error: ArbeError, book: Book, when_busy: str | None) -> bool:
    match error:
        case Gone():
            return book.deleting
        case Conflict(reason="busy"):
            return when_busy == "reject"
        case _:
            return False


def _accepted(post: Post, answer: dict[str, Any]) -> None:
    post.entry_id = answer["entry"]["id"]
    post.dispatches = [each["id"] for each in answer["dispatches"]]
