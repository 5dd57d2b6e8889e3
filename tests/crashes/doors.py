"""The doors to the outside, where a process may die: Redis, Postgres, the broker.

Put in the place of the record's own doors, by name, for the length of a campaign; everything
behind them is real. The processes of a play share the real connections, since none of what they
do depends on whose they are; all else (caches, scripts, writers) each process has for itself.
"""

import hashlib
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final
from unittest import mock

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dispatch.config import Settings
from dispatch.ids import new_run_id
from dispatch.operations import record as records
from dispatch.streams import scripts
from dispatch.streams.connection import Argument, Connection, ServerRestarted
from dispatch.streams.scripts import Scripts
from dispatch.transport import Hint
from tests.crashes.life import LIFE
from tests.streams.simulated import CLOCK, START_MS

_THREAD: Final = re.compile(r"[{}]|arbe-thread-[0-9a-f-]{36}}?:?")


class Clock:
    """The time of the play, and which start of Redis it is: keys the scripts read."""

    def __init__(self, wire: Connection) -> None:
        self._wire = wire
        self.now_ms = START_MS
        self.boot = "first"

    async def set(self, now_ms: int) -> None:
        self.now_ms = now_ms
        await self._wire.call("SET", "arbe:test:clock", now_ms)

    async def restart_redis(self) -> None:
        """Let everybody believe that Redis has started anew; scripts are forgotten too."""
        self.boot = new_run_id()
        await self._wire.call("SCRIPT", "FLUSH")
        await self.tell()

    async def tell(self) -> None:
        """Write what it is into a Redis that was emptied."""
        await self._wire.call("SET", "arbe:test:boot", self.boot)
        await self.set(self.now_ms)


class RedisDoor(Connection):
    """Stands for `Connection`; one per process, over a wire they share."""

    def __init__(self, wire: Connection, clock: Clock, names: dict[str, str]) -> None:
        self._wire = wire
        self._clock = clock
        self._names = names

    async def call(self, *arguments: Argument, boot: str | None = None) -> Any:
        life = LIFE.get()
        if life is None:
            return await self._pass(arguments, boot)
        return await life.cross(self._name(arguments), lambda: self._pass(arguments, boot))

    async def boot(self) -> str:
        return self._clock.boot

    async def close(self) -> None:
        """Leave the wire to the others."""

    async def _pass(self, arguments: Sequence[Argument], boot: str | None) -> Any:
        if boot not in {None, self._clock.boot}:
            raise ServerRestarted
        if arguments == ("TIME",):
            seconds, milliseconds = divmod(self._clock.now_ms, 1000)
            return [seconds, milliseconds * 1000]
        # The wire's own task serves every process: it must not die with this one.
        mine = LIFE.set(None)
        try:
            return await self._wire.call(*arguments)
        finally:
            LIFE.reset(mine)

    def _name(self, arguments: Sequence[Argument]) -> str:
        word = str(arguments[0])
        if word in {"EVALSHA", "EVAL"}:
            return f"redis {self._names.get(str(arguments[1]), word)}"
        where = _THREAD.sub("", str(arguments[1])) if len(arguments) > 1 else ""
        return f"redis {word} {where}".rstrip()


class Sessions:
    """One role's connections, kept open: a pool would wipe and ping each at every use."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[AsyncConnection] = []

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        connection = self._idle.pop() if self._idle else await self._engine.connect()
        try:
            async with connection.begin():
                yield connection
        finally:
            if connection.invalidated:
                await connection.close()
            else:
                self._idle.append(connection)

    async def close(self) -> None:
        for connection in self._idle:
            await connection.close()
        await self._engine.dispose()


class PostgresDoor:
    """Stands for one role's engine: each transaction is a step."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        life = LIFE.get()
        if life is None:
            async with self._sessions.begin() as connection:
                yield connection
            return
        kind = await life.arrive(f"postgres {_asker()}", is_transaction=True)
        with life.transaction(kind) as commit:
            async with self._sessions.begin() as connection:
                yield connection
                commit()

    async def dispose(self) -> None:
        """Leave the pool to the others."""


def _asker() -> str:
    """Return the function that opened the transaction, from the frames of its `async with`."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/dispatch/operations/" in file or "/workers/" in file:
            return f"{Path(file).stem}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "?"


class Broker:
    """Holds hints until a worker takes them; forgets them when it is told to."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []


class Bell:
    """Stands for `Transport`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def ring(self, hints: Sequence[Hint]) -> None:
        life = LIFE.get()
        if hints and life is not None:
            life.cross_at_once("broker ring", lambda: self._broker.hints.extend(hints))

    async def close(self) -> None:
        """Nothing waits."""


class Doors:
    """All doors of one world."""

    def __init__(self, settings: Settings) -> None:
        self.wire = Connection(
            settings.stream_url.get_secret_value(),
            timeout_seconds=settings.stream_timeout_seconds,
        )
        self.clock = Clock(self.wire)
        self.broker = Broker()
        self._sessions: dict[str, Sessions] = {}
        self._make_engine = records.engine.make_engine
        self._texts = _texts()
        self._names = {known: name for name, pair in self._texts.items() for known in pair}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Put the doors in their places."""
        texts = self._texts

        class TimedScripts(Scripts):
            def _assemble(self, name: str, _boot: str) -> tuple[str, str]:
                return texts[name]

        with (
            mock.patch.object(records.engine, "make_engine", self._engine),
            mock.patch.object(records, "Connection", self._connection),
            mock.patch.object(records, "Scripts", TimedScripts),
            mock.patch.object(records, "Transport", self._bell),
        ):
            yield

    async def load_scripts(self) -> None:
        """Let Redis know every script, so that none is sent twice."""
        for text, _ in self._texts.values():
            await self.wire.call("SCRIPT", "LOAD", text)

    @asynccontextmanager
    async def mutated(self, name: str, piece: str, other: str) -> AsyncIterator[None]:
        """Change a piece of one script, for every process."""
        was = self._texts[name]
        assert was[0].count(piece) == 1, "the mutation must find its place"
        text = was[0].replace(piece, other)
        digest = (await self.wire.call("SCRIPT", "LOAD", text)).decode()
        self._names[digest] = self._names[text] = name
        self._texts[name] = (text, digest)
        try:
            yield
        finally:
            self._texts[name] = was

    async def close(self) -> None:
        await self.wire.close()
        for sessions in self._sessions.values():
            await sessions.close()

    def _connection(self, _url: str, **_: Any) -> RedisDoor:
        return RedisDoor(self.wire, self.clock, self._names)

    def _bell(self, *_: Any, **__: Any) -> Bell:
        return Bell(self.broker)

    def _engine(self, url: str, *, role: Any, settings: Settings) -> Any:
        if role not in self._sessions:
            engine = self._make_engine(url, role=role, settings=settings)
            self._sessions[role] = Sessions(engine)
        return PostgresDoor(self._sessions[role])


def _texts() -> dict[str, tuple[str, str]]:
    """Return every script as a simulated clock runs it, and its digest."""
    texts = {
        file.name.removesuffix(".lua"): scripts.source(
            file.name.removesuffix(".lua"), boot="", clock=CLOCK
        )
        for file in resources.files(scripts.__name__).iterdir()
        if file.name.endswith(".lua") and not file.name.startswith("_")
    }
    return {
        name: (text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
        for name, text in texts.items()
    }
