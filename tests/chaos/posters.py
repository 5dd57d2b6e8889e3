"""People with a few threads each: they post, change their minds, and delete what they had."""

import asyncio
import random
import secrets
from dataclasses import dataclass, field
from typing import Final

from dispatch.errors import ArbeError, Conflict, NotFound
from tests.chaos.books import Book, CancelAll, Post, ThreadKind
from tests.chaos.events import now_ms
from tests.chaos.load import Load

_POSTERS: Final = 6
_OPEN_THREADS: Final = 3
"""Each: two posters never share one, so a thread's queue stays short."""
_MAX_POSTS: Final = 20
"""Per thread; some have enough after three, so that also a short round retires threads."""
_PAUSE_SECONDS: Final = 0.4
_CHANGES_MIND: Final = 0.2
_TWICE: Final = 0.1
_DELETE: Final = 0.4
"""Of the threads that have had their posts; the rest is read at the end."""
_KINDS: Final[tuple[ThreadKind, ...]] = (
    "demo", "chaos", "demo", "again", "chaos", "room", "demo", "chaos",
)  # fmt: skip
_WHEN_BUSY: Final = (
    *(None,) * 10,
    *("steer", "interrupt", "write") * 2,
    *("enqueue", "rollback", "reject"),
)


def start(load: Load) -> None:
    """Let everybody begin."""
    for number in range(_POSTERS):
        dice = random.Random(load.seed * 1000 + number)  # noqa: S311 - it must come again
        load.begin(Poster(load, dice).post_until_stopped())


@dataclass(eq=False)
class Poster:
    """One of them."""

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
        text = self.load.orders.make(book.kind, self.dice)
        when_busy, is_twice = self.dice.choice(_WHEN_BUSY), self.dice.random() < _TWICE
        post = await self.load.post(book, text, when_busy=when_busy, is_twice=is_twice)
        # What was only written down woke nobody: there is nothing to take back.
        if post.dispatches and self.dice.random() < _CHANGES_MIND:
            await self._change_mind(book, post)
        if self.dice.random() < len(book.posts) / _MAX_POSTS**1.5:
            self.mine.remove(book)
            await self._retire(book)

    # --- threads -----------------------------------------------------------------------------

    async def _open_thread(self) -> Book:
        kind = self.dice.choice(_KINDS)
        book = await self._create(kind)
        self.load.live.append(book)
        return book

    async def _create(self, kind: ThreadKind) -> Book:
        if kind != "room":
            return await self.load.create(kind, parent=f"@{kind}", agents=[kind])
        both = ["demo", "chaos"]
        room = await self.load.create("room", parent=None, agents=both)
        if self.dice.random() < 0.5:
            return room
        # Nobody posts to its parent, which takes it along when it is cancelled or deleted.
        child = await self.load.create("child", parent=room.thread_id, agents=both)
        room.children.append(child)
        return child

    async def _retire(self, book: Book) -> None:
        """Post there no more; perhaps delete it, most likely while an agent works there."""
        self.load.live.remove(book)
        if self.dice.random() >= _DELETE:
            return
        family = self._family(book)
        for each in family:
            each.deleting = True
        key = secrets.token_hex(8)
        top = family[0].thread_id
        await self.load.doors.insist(lambda client: client.threads.delete(top, key=key))
        for each in family:
            each.deleted, each.deleted_ms = True, now_ms()

    def _family(self, book: Book) -> list[Book]:
        """Return a thread's parent, if it has one, and all below that."""
        every = self.load.books.threads.values()
        top = next((each for each in every if book in each.children), book)
        return [top, *top.children]

    # --- second thoughts ---------------------------------------------------------------------

    async def _change_mind(self, book: Book, post: Post) -> None:
        await asyncio.sleep(self.dice.choice([0.0, 0.1, 0.7]))
        act = self.dice.choice(["cancel", "cancel", "withdraw", "withdraw", "cancel_all"])
        try:
            if act == "withdraw":
                await self._withdraw(book, post)
            elif act == "cancel_all":
                await self._cancel_all(book)
            else:
                await self._cancel(book, self.dice.choice(post.dispatches))
        except NotFound:
            self.load.books.missing.append(post.entry_id)

    async def _cancel(self, book: Book, dispatch_id: str) -> None:
        key = secrets.token_hex(8)
        answer = await self.load.doors.insist(
            lambda client: client.threads.cancel(
                book.thread_id, dispatch_id, message="chaos", key=key
            )
        )
        book.cancelled[dispatch_id] = str(answer["status"])

    async def _withdraw(self, book: Book, post: Post) -> None:
        key = secrets.token_hex(8)
        try:
            answer = await self.load.doors.insist(
                lambda client: client.entries.withdraw(book.thread_id, post.entry_id, key=key)
            )
        except Conflict as conflict:
            if conflict.reason != "already_delivered":
                raise
            return
        book.withdrawn += answer["withdrawn"]

    async def _cancel_all(self, book: Book) -> None:
        """Cancel all that is open in a thread, its parent and its parent's other threads."""
        key, family, asked_ms = secrets.token_hex(8), self._family(book), now_ms()
        top = family[0].thread_id
        answer = await self.load.doors.insist(
            lambda client: client.threads.cancel_all(top, message="chaos", key=key)
        )
        if answer["done"]:
            for each in family:
                each.cancel_alls.append(CancelAll(asked_ms, now_ms()))
