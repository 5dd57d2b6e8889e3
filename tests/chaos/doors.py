"""Both APIs as one patient client: a call is made until somebody answers it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from dispatch.client import Client
from dispatch.errors import Conflict, TooBusy, Unavailable
from tests.chaos.books import Books

Answer = TypeVar("Answer")
_ANSWER_SECONDS: Final = 6.0
"""Longer than the API waits for its servers; a stopped API is left sooner than by TCP."""
_PAUSE_SECONDS: Final = 0.3


@dataclass(eq=False)
class Doors:
    """The API processes. Which one is asked is chance, at each try anew."""

    clients: list[Client]
    books: Books
    dice: random.Random = field(default_factory=random.Random)

    def any(self) -> Client:
        """Return one of them."""
        return self.dice.choice(self.clients)

    async def insist(self, call: Callable[[Client], Awaitable[Answer]]) -> Answer:
        """Make a call that may arrive twice until it is answered.

        Raises: what the answer says, unless it says "not now".
        """
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await call(self.any())
            except (Unavailable, TooBusy, TimeoutError):
                self.books.unavailable += 1
            except Conflict as conflict:
                # An earlier try of ours is still at it, or died there.
                if conflict.reason != "key_in_use":
                    raise
                self.books.unavailable += 1
            await asyncio.sleep(self.dice.uniform(0.5, 1.5) * _PAUSE_SECONDS)

    async def close(self) -> None:
        """Hang up."""
        for client in self.clients:
            await client.close()


def open_doors(urls: list[str], token: str, books: Books) -> Doors:
    """Make a client per API that repeats nothing by itself for long."""
    return Doors([Client(url, token, patience_seconds=0.5) for url in urls], books)
