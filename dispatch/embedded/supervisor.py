"""Keeps child processes alive, and ends them all with itself.

Children start one after the other, each when the one before is ready, and stop in reverse.
Whatever dies is started again, at once at first, then with growing waits. Each child has its
own session, so the terminal's Ctrl-C reaches only the supervisor. On Linux no child outlives
the supervisor, not even its kill -9. Not guaranteed: that a child's own children end with it
when they left its process group; nor that a restarted child is ready when its users ask again.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from dispatch.embedded.child import Child
from dispatch.embedded.journal import Journal
from dispatch.embedded.keeper import Keeper


class Supervisor:
    """The children of one process; make it by `running`, which also ends them."""

    def __init__(self, journal: Journal, *, in_haste: asyncio.Event) -> None:
        self._journal = journal
        self._keepers: list[Keeper] = []
        self._in_haste = in_haste

    async def start(self, child: Child) -> None:
        """Start the child and keep it alive from now on.

        Promise: on return it is ready. Raises: Unavailable when it does not become ready or
        dies again and again; its log says why.
        """
        keeper = Keeper(child, self._journal)
        self._keepers.append(keeper)
        await keeper.start()

    def process_id(self, name: str) -> int | None:
        """Return the pid of the child of that name while it lives."""
        return next(
            (keeper.process_id for keeper in self._keepers if keeper.child.name == name), None
        )

    async def stop(self) -> None:
        """Stop all children, the last started first; twice is harmless."""
        while self._keepers:
            await self._keepers[-1].stop(self._in_haste)
            self._keepers.pop()


@contextlib.asynccontextmanager
async def running(journal: Journal, *, in_haste: asyncio.Event) -> AsyncGenerator[Supervisor]:
    """Have a supervisor for the length of the block.

    Promise: no child is left behind. Args: in_haste: once set, what still stops is killed.
    """
    supervisor = Supervisor(journal, in_haste=in_haste)
    try:
        yield supervisor
    finally:
        await supervisor.stop()
