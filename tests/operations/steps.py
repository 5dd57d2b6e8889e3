"""An operation that stands still before each of its writes, until it is told to go on, or dies.

The operation is the real one: it is given a record whose engines and scripts wait at a gate.
Between two steps it is like a process that the machine has not scheduled: what it has read may
be long out of date. Dying at a gate is a kill between two I/O steps.
"""

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dispatch.errors import ArbeError
from dispatch.operations.record import Record
from dispatch.streams.connection import Argument, Connection
from dispatch.streams.scripts import Revalidate
from tests.streams.simulated import CLOCK, Heard

Operation = Callable[[Record], Awaitable[object]]
_QUIET_TURNS = 4
"""Turns of the loop in which nothing moves: whatever can go on has gone on."""


class Gate:
    """Where the calls of one process wait; all that wait go on together."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.under_way = 0

    @contextlib.asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        await turn
        with self.counted():
            yield

    @contextlib.contextmanager
    def counted(self):
        """Count a call as under way, gated or not."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def open_once(self) -> None:
        waiting, self.waiting = self.waiting, []
        for turn in waiting:
            turn.set_result(None)


class GatedEngine:
    """An engine each of whose transactions waits at the gate before it begins."""

    def __init__(self, engine: AsyncEngine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self._gate.passed(), self._engine.begin() as connection:
            yield connection


class GatedScripts(Heard):
    """Scripts each of which waits at the gate before it is sent, also within a revalidate."""

    def __init__(self, like: Heard, gate: Gate, revalidate: Revalidate) -> None:
        super().__init__(like._connection, clock=CLOCK, revalidate=revalidate)
        self._mutated = like._mutated
        self._gate = gate

    async def _evaluate(
        self, name: str, keys_: list[str], arguments: tuple[Argument, ...]
    ) -> list[Any]:
        async with self._gate.passed():
            return await super()._evaluate(name, keys_, arguments)


class CountedConnection:
    """A connection whose reads pass the gate, but are waited for."""

    def __init__(self, connection: Connection, gate: Gate) -> None:
        self._connection = connection
        self._gate = gate

    async def call(self, *arguments: Argument) -> Any:
        with self._gate.counted():
            return await self._connection.call(*arguments)

    async def boot(self) -> str:
        return await self._connection.boot()

    @property
    def undisturbed_seconds(self) -> float:
        return self._connection.undisturbed_seconds


class Steps:
    """One process that runs one operation."""

    def __init__(self, record: Record, operation: Operation) -> None:
        self._gate = Gate()
        own: Any = copy.copy(record)
        own.members = GatedEngine(record.members, self._gate)
        own.projector = GatedEngine(record.projector, self._gate)
        own.scripts = GatedScripts(record.scripts, self._gate, own.revalidate)
        own.connection = CountedConnection(record.connection, self._gate)
        self._task = asyncio.ensure_future(self._run(operation, own))

    @staticmethod
    async def _run(operation: Operation, record: Record) -> None:
        with contextlib.suppress(ArbeError):
            await operation(record)

    @property
    def is_over(self) -> bool:
        return self._task.done()

    async def go(self, steps: int | None = None) -> None:
        """Take so many steps, or all there are."""
        await self._settled()
        while not self._task.done() and steps != 0:
            self._gate.open_once()
            await self._settled()
            steps = None if steps is None else steps - 1
        if self._task.done():
            self._task.result()

    async def die(self) -> None:
        """End here, without another word."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _settled(self) -> None:
        quiet = 0
        while quiet < _QUIET_TURNS:
            still = not self._gate.under_way and (self._task.done() or self._gate.waiting)
            quiet = quiet + 1 if still else 0
            await asyncio.sleep(0 if still else 0.0002)
