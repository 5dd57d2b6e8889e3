"""The one pub/sub connection of a process: it hears every channel that anybody here wants.

It speaks redis-py's connection directly, not its PubSub: that one reconnects inside a read,
unseen, and what was published meanwhile would be missed. Its two tasks are never cancelled (on
Python 3.11 redis.asyncio may swallow that): closing the socket ends them.
Not guaranteed: that nothing is missed. After each `lost` the listener must read what it lacks,
once `subscribed` has been said again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, cast

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from dispatch import clock, log

_PING_SECONDS: Final = 4.0
"""A quiet connection is asked this often whether it still lives."""
_SILENT_SECONDS: Final = 9.0
"""A connection that said nothing for two pings and a second is given up."""
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0
"""Waits between attempts to connect double up to this: followers hear nothing meanwhile."""
_CHANNELS_PER_COMMAND: Final = 500

_log = log.get(__name__)


class Listener(Protocol):
    """Who is told what the connection hears; the calls must not wait and must not fail."""

    def subscribed(self, channel: str) -> None:
        """Note that from now on everything published on the channel is heard."""
        ...

    def heard(self, channel: str, message: bytes) -> None:
        """Take a message."""
        ...

    def lost(self) -> None:
        """Note that anything may have been missed, on every channel."""
        ...


class Subscriber:
    """Keeps one connection subscribed to what is wanted. Make it inside a running loop."""

    def __init__(self, url: str, listener: Listener, *, timeout_seconds: float) -> None:
        # RESP2: the answers to SUBSCRIBE and the messages then come as plain lists. No
        # socket_timeout: a read waits as long as nothing is published.
        library: Any = ConnectionPool  # its constructors carry no types
        self._pool: Any = library.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=timeout_seconds,
            socket_keepalive=True,
            health_check_interval=0,
        )
        self._timeout_seconds = timeout_seconds
        self._listener = listener
        self._wanted: dict[str, None] = {}
        self._outbox: list[tuple[str, str]] = []
        self._something_to_send = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._heard_at = 0.0
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def want(self, channel: str) -> None:
        """Subscribe to a channel, now and after every reconnect; `subscribed` will be said."""
        self._wanted[channel] = None
        self._post("SUBSCRIBE", channel)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def drop(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._wanted.pop(channel, None)
        self._post("UNSUBSCRIBE", channel)

    async def close(self) -> None:
        """Disconnect and end the tasks."""
        self._closing.set()
        await self._hang_up()
        if self._task is not None:
            await self._task
        await self._pool.aclose()

    def _post(self, verb: str, channel: str) -> None:
        self._outbox.append((verb, channel))
        self._something_to_send.set()

    async def _run(self) -> None:
        wait_seconds = _FIRST_WAIT_SECONDS
        while not self._closing.is_set():
            try:
                connection = await self._connect()
                wait_seconds = _FIRST_WAIT_SECONDS
                await self._serve(connection)
            except (RedisError, OSError, TimeoutError) as error:
                if not self._closing.is_set():
                    _log.warning("feed.lost", cause=type(error).__name__)
            self._listener.lost()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._closing.wait()
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()
        connect: Callable[[], Awaitable[None]] = connection.connect
        async with asyncio.timeout(self._timeout_seconds):
            await connect()
        self._connection = connection
        # What waits in the outbox is part of what is wanted: everything is said afresh.
        self._outbox = [("SUBSCRIBE", channel) for channel in self._wanted]
        self._something_to_send.set()
        return connection

    async def _serve(self, connection: AbstractConnection) -> None:
        read = cast("Callable[[], Awaitable[list[Any]]]", connection.read_response)
        self._heard_at = clock.monotonic_seconds()
        sender = asyncio.create_task(self._send(connection))
        try:
            if self._closing.is_set():
                return
            while True:
                reply = await read()
                self._heard_at = clock.monotonic_seconds()
                self._tell(reply)
        finally:
            await self._hang_up()
            await sender

    def _tell(self, reply: Sequence[Any]) -> None:
        match reply:
            case [b"message", channel, message]:
                self._listener.heard(channel.decode(), message)
            case [b"subscribe", channel, _]:
                self._listener.subscribed(channel.decode())
            case _:
                pass

    async def _send(self, connection: AbstractConnection) -> None:
        """Send what is posted, in order, and ping a silent connection, until it is hung up."""
        try:
            while self._connection is connection:
                for command in await self._commands():
                    # redis-py would reconnect by itself here, unseen by the reader.
                    if self._connection is not connection or not connection.is_connected:
                        return
                    await connection.send_command(*command, check_health=False)
                if clock.monotonic_seconds() - self._heard_at > _SILENT_SECONDS:
                    _log.warning("feed.silent")
                    await self._hang_up()
        except (RedisError, OSError, RuntimeError):
            # RuntimeError: uvloop's word for a transport that the other side has closed.
            await self._hang_up()

    async def _commands(self) -> list[list[str]]:
        """Wait for something to send; in silence it is a ping."""
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await self._something_to_send.wait()
        except TimeoutError:
            return [["PING"]]
        self._something_to_send.clear()
        posted, self._outbox = self._outbox, []
        return _joined(posted)

    async def _hang_up(self) -> None:
        """Close the socket, which ends the read, and let the sender see it."""
        connection, self._connection = self._connection, None
        self._something_to_send.set()
        if connection is not None:
            await connection.disconnect(nowait=True)


def _joined(posted: list[tuple[str, str]]) -> list[list[str]]:
    """Join neighbours of one verb into one command; the order stays."""
    commands: list[list[str]] = []
    for verb, channel in posted:
        if not commands or commands[-1][0] != verb or len(commands[-1]) > _CHANNELS_PER_COMMAND:
            commands.append([verb])
        commands[-1].append(channel)
    return commands
