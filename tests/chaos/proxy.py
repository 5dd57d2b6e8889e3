"""A way to one server that can be made bad while it is in use.

One proxy stands between one process and one server, so that a fault hits nobody else. Bytes are
passed on in order, whole or not at all; what a fault holds back is delivered late or never.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.chaos import ports

Mode = Literal["pass", "delay", "refuse", "hang", "hang_up", "hang_down"]
"""hang_up: what the client says is held; hang_down: what the server answers is; hang: both."""
MODES: Final[tuple[Mode, ...]] = ("delay", "refuse", "hang", "hang_up", "hang_down")
_READ_BYTES: Final = 64 * 1024
_CONNECT_SECONDS: Final = 5.0
_HELD: Final[dict[Mode, frozenset[str]]] = {
    "hang": frozenset({"up", "down"}),
    "hang_up": frozenset({"up"}),
    "hang_down": frozenset({"down"}),
}
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing says RST, and what waits is thrown away."""


@dataclass(eq=False)
class Line:
    """One connection through the proxy."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def end(self, *, reset: bool) -> None:
        """Close both ends, with a FIN or with a RST."""
        for writer in self.writers:
            if reset:
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            else:
                writer.close()


@dataclass(eq=False)
class Proxy:
    """One way: listens on a port of its own and connects to one server's."""

    target: int
    port: int = 0
    mode: Mode = "pass"
    delay_seconds: float = 0.0
    lines: set[Line] = field(default_factory=set)
    _reserved: socket.socket | None = None
    _server: asyncio.Server | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def open(self) -> None:
        """Take a port and listen."""
        self.port = ports.choose()
        # Bound and not listening: the port stays ours while connections are refused.
        self._reserved = self._bound()
        await self._listen()

    async def close(self) -> None:
        """End everything."""
        await self._deafen()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._reserved is not None:
            self._reserved.close()

    async def set(self, mode: Mode, *, delay_seconds: float = 0.0) -> None:
        """Be like this from now on, for old connections and new ones."""
        async with self._changed:
            self.mode, self.delay_seconds = mode, delay_seconds
            self._changed.notify_all()
        if mode == "refuse":
            self.cut(reset=False)
            await self._deafen()
        elif self._server is None:
            await self._listen()

    def cut(self, *, reset: bool) -> None:
        """End every connection of this moment; new ones are as good as the mode."""
        for line in tuple(self.lines):
            line.end(reset=reset)

    def _bound(self) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((ports.LOOPBACK, self.port))
        return made

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._bound())

    async def _deafen(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine function: asyncio would keep that task where we cannot end it.
        self._keep(self._serve(reader, writer))

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line([writer])
        self.lines.add(line)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                there, onward = await asyncio.open_connection(ports.LOOPBACK, self.target)
            line.writers.append(onward)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump("up", reader, onward))
                pumps.create_task(self._pump("down", there, writer))
        except* OSError:
            line.end(reset=True)
        finally:
            line.end(reset=False)
            self.lines.discard(line)

    async def _pump(
        self, direction: str, source: asyncio.StreamReader, to: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(_READ_BYTES):
            if self.mode != "pass":
                await self._hold(direction)
            to.write(data)
            await to.drain()
        # One end hung up: our clients and servers never go on one way only.
        raise ConnectionResetError

    async def _hold(self, direction: str) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: direction not in _HELD.get(self.mode, frozenset())
            )
        if self.mode == "delay":
            await asyncio.sleep(self.delay_seconds)
