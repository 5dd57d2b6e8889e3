"""One connection to Redis per process for all short calls, micro-batched.

Concurrent calls of a process leave together in one pipeline; a lone call pays nothing for it.
The connection belongs to one task that is never cancelled: on Python 3.11 redis.asyncio may
swallow a cancellation that races a reply (redis-py uses `asyncio.wait_for`), so callers only
ever wait on futures. A call whose answer was lost is sent again: transitions may be sent twice
(`threads` and `runs` say what then; `signal` alone would stand twice). Each new connection asks
the server for its `run_id`: a call made for one start of the server never runs on another.

Not guaranteed: order between calls of different callers.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, cast

import hiredis
from redis.asyncio import Connection as RedisConnection
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dispatch import clock
from dispatch.errors import Unavailable

Argument = str | bytes | int | float
_MAX_BATCH: Final = 256
"""Calls that leave together: bounds the time one caller waits for the others' replies."""


_pack: Final = cast(
    "Callable[[tuple[Any, ...]], bytes]",
    hiredis.pack_command,  # pyright: ignore[reportUnknownMemberType]
)


class _PackedConnection(RedisConnection):
    """redis-py's connection, but commands are packed in C; redis-py's asyncio side does not.

    A TLS or socket-file URL brings its own class and packs slower.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return one command as it goes over the wire."""
        return [_pack((*args[0].split(), *args[1:]))]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Return commands as they go over the wire, as one piece."""
        packed = [piece for command in commands for piece in self.pack_command(*command)]
        return [b"".join(packed)]


class ServerRestarted(RedisError):
    """The server is another start than the call was made for; nothing was run."""


class _Call:
    __slots__ = ("arguments", "boot", "future")

    def __init__(
        self, arguments: Sequence[Argument], future: asyncio.Future[Any], boot: str | None
    ) -> None:
        self.arguments = arguments
        self.future = future
        self.boot = boot


class Connection:
    """The micro-batched door to one Redis. Make it inside a running loop; close it after."""

    _disturbed_at: float | None = None

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        # redis-py's types are partly unknown: what comes from it is Any until `_settle`.
        library: Any = ConnectionPool
        self._connection: Any = library.from_url(
            url,
            connection_class=_PackedConnection,
            protocol=3,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            socket_keepalive=True,
        ).make_connection()
        self._retry: Any = Retry(
            ExponentialBackoff(cap=0.5, base=0.05), 4, supported_errors=(RedisConnectionError,)
        )
        self._boot: str | None = None
        self._waiting: list[_Call] = []
        self._flusher: asyncio.Task[None] | None = None

    async def call(self, *arguments: Argument, boot: str | None = None) -> Any:
        """Run one command and return the reply as Redis sent it (RESP3).

        Args: boot: run it only on this start of the server.
        Raises: Unavailable, if Redis does not answer in time; ResponseError, if it refuses;
        ServerRestarted, if it is not that start any more.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(arguments, future, boot))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return await future

    @property
    def undisturbed_seconds(self) -> float:
        """Return how long ago a call last had no answer; infinity: none ever."""
        if self._disturbed_at is None:
            return math.inf
        return clock.monotonic_seconds() - self._disturbed_at

    async def boot(self) -> str:
        """Return the `run_id` of the server as of the last connection to it.

        Raises: Unavailable.
        """
        if self._boot is None:
            await self.call("PING")
        return self._boot or ""

    async def close(self) -> None:
        """Let the calls under way end, then disconnect."""
        if self._flusher is not None:
            await self._flusher
        await self._connection.disconnect()

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                await self._send(batch)
        finally:
            self._flusher = None

    async def _send(self, batch: list[_Call]) -> None:
        try:
            replies = await self._replies(batch)
        except (RedisError, OSError) as error:
            self._disturbed_at = clock.monotonic_seconds()
            for call in batch:
                _settle(call.future, error)
            return
        except BaseException as error:
            # Our own mistake, or the end of the loop: nobody may wait for ever.
            for call in batch:
                _settle(call.future, RedisConnectionError(repr(error)))
            raise
        for call, reply in zip(batch, replies, strict=True):
            _settle(call.future, reply)

    async def _replies(self, batch: list[_Call]) -> list[Any]:
        """Send a batch, again on a new connection if this one breaks; a refusal is a reply."""

        async def exchange() -> list[Any]:
            try:
                return await self._exchange(batch)
            except RuntimeError as error:
                # uvloop says so of a transport that the other side closed since the last call.
                raise RedisConnectionError("the transport is closed") from error

        try:
            replies: list[Any] = await self._retry.call_with_retry(exchange, self._hang_up)
        except BaseException as error:
            await self._hang_up(error)
            raise
        return replies

    async def _exchange(self, batch: list[_Call]) -> list[Any]:
        # redis-py's client would do the same for each call by itself, at twice the price.
        if not self._connection.is_connected:
            await self._connect()
        runs_here = [call.boot is None or call.boot == self._boot for call in batch]
        calls = [call.arguments for call, fits in zip(batch, runs_here, strict=True) if fits]
        if calls:
            packed = self._connection.pack_commands(calls)
            await self._connection.send_packed_command(packed, check_health=False)
        return [await self._reply() if fits else ServerRestarted() for fits in runs_here]

    async def _connect(self) -> None:
        await self._connection.connect()
        await self._connection.send_packed_command(_pack(("INFO", "server")))
        self._boot = _run_id_of(await self._connection.read_response())

    async def _reply(self) -> Any:
        read: Callable[[], Awaitable[Any]] = self._connection.read_response
        try:
            return await read()
        except ResponseError as error:
            return error

    async def _hang_up(self, _error: BaseException) -> None:
        """Leave the connection: replies that were not read must not answer later calls."""
        await self._connection.disconnect(nowait=True)


def _run_id_of(told: bytes | str) -> str:
    lines = (told if isinstance(told, str) else told.decode()).splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith("run_id:"))


def _settle(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(_translated(reply))
    else:
        future.set_result(reply)


def _translated(error: Exception) -> Exception:
    if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
        translated = Unavailable("Redis", cause=type(error).__name__)
        translated.__cause__ = error
        return translated
    return error
