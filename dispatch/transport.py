"""Sends tasks by name; the only module of the record that knows Celery and kombu.

A hint may be lost, doubled or forged without harm: the due index remembers the work. So hints
leave in the background, and a dead broker costs a log line. To a Redis broker they go as
ready-made Celery messages over the record's own asyncio connection, since Celery's publisher
costs more than everything else in accepting an entry; a test holds their form against Celery's.
To RabbitMQ they go through Celery and kombu, on one OS thread.
"""

import asyncio
import base64
import contextlib
import os
import threading
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol
from uuid import uuid4

import msgspec
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

from dispatch import log, task_names
from dispatch.config import Settings
from dispatch.errors import Unavailable
from dispatch.ids import AgentId, ThreadId

_log = log.get(__name__)
_MAX_PENDING: Final = 10_000
"""Hints kept while the broker is slow; beyond it the oldest are left to the due index."""


class Hint(msgspec.Struct, frozen=True):
    """Words to a worker of this queue: look at this lane."""

    thread_id: ThreadId
    lane: AgentId
    queue: str

    @property
    def task(self) -> str:
        """Name the task that takes it."""
        return task_names.RUN_LANE

    @property
    def arguments(self) -> list[str]:
        """Return the task's arguments."""
        return [str(self.thread_id), str(self.lane)]


class Echo(msgspec.Struct, frozen=True):
    """A worker process's word to itself, through the broker and back; see `own_queue`."""

    queue: str

    @property
    def task(self) -> str:
        """Name the task that takes it."""
        return task_names.HEAR

    @property
    def arguments(self) -> list[str]:
        """Return the task's arguments."""
        return []


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return the Celery configuration that producers and workers share."""
    is_redis = uses_redis(settings)
    return {
        "broker_url": settings.broker,
        "broker_transport_options": _redis_options(settings) if is_redis else _AMQP_OPTIONS,
        "broker_connection_timeout": 3,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_queue": task_names.TURNS_QUEUE,
        "task_default_queue_type": "classic" if is_redis else "quorum",
        "task_default_exchange_type": "direct",
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
    }


def _redis_options(settings: Settings) -> dict[str, Any]:
    return {
        # kombu passes socket_timeout=None by default, and a silent broker then blocks for ever.
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 5,
        "priority_steps": [0],
        # No countdown may ever be longer than this: Celery would run the task again and again.
        "visibility_timeout": settings.broker_visibility_seconds,
        "unacked_restore_interval": min(10, settings.broker_visibility_seconds),
        "unacked_restore_throttle": 1,
    }


_AMQP_OPTIONS: Final = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}


Message = Hint | Echo
ECHO_SECONDS: Final = 60.0
"""An echo nobody took in this time is gone from a Redis broker, and its queue with it."""


class Push(Protocol):
    """Puts messages on a Redis list; raises Unavailable."""

    def __call__(
        self, queue: str, messages: list[bytes], *, only_seconds: float | None = None
    ) -> Awaitable[object]:
        """Args: only_seconds: keep the last message alone, and not longer than this."""
        ...


class Transport:
    """One process's way to the broker. Make it once, on the loop that rings; close it after."""

    def __init__(self, settings: Settings, *, push: Push | None) -> None:
        """Args: push: the way to a Redis broker; None: it is RabbitMQ."""
        self._app = Celery("arbe-producer", set_as_current=False)
        self._app.conf.update(celery_settings(settings))
        self._bell = _RedisBell(push) if push is not None else _AmqpBell(self._app)

    def ring(self, hints: Sequence[Hint]) -> None:
        """Send hints soon, in the background; never blocks and never raises."""
        if hints:
            self._bell.ring(hints)

    async def echo(self, queue: str) -> None:
        """Send a message to a worker's own queue and wait until the broker has it.

        Raises: Unavailable.
        """
        try:
            await self._bell.echo(Echo(queue))
        except Exception as error:
            # Whatever kombu raised: the broker did not take it.
            raise Unavailable("The broker", cause=type(error).__name__) from error

    def check(self) -> None:
        """Return if the broker answers. Blocks; call it on an OS thread.

        Raises: Unavailable.
        """
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=3)
        except _broker_errors(self._app) as error:
            raise Unavailable("The broker", cause=type(error).__name__) from error

    async def close(self) -> None:
        """Send what is pending, then disconnect. Waits a few seconds at most."""
        await self._bell.close()


class _RedisBell:
    """Rings on the loop: one LPUSH for all hints of a queue that wait."""

    def __init__(self, push: Push) -> None:
        self._push = push
        self._pending: list[Hint] = []
        self._flusher: asyncio.Task[None] | None = None

    def ring(self, hints: Sequence[Hint]) -> None:
        self._pending.extend(hints)
        del self._pending[:-_MAX_PENDING]
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())

    async def echo(self, echo: Echo) -> None:
        await self._push(echo.queue, [redis_message(echo)], only_seconds=ECHO_SECONDS)

    async def close(self) -> None:
        if self._flusher is not None:
            await self._flusher

    async def _flush(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                await self._send(batch)
        finally:
            self._flusher = None

    async def _send(self, batch: list[Hint]) -> None:
        try:
            for name, hints in _by_queue(batch).items():
                await self._push(name, [redis_message(hint) for hint in hints])
        except Exception as error:  # noqa: BLE001 - whatever the broker does, the sweep rings again
            _lost(batch, error)


class _AmqpBell:
    """Rings on one OS thread with one connection: kombu knows no asyncio."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._broker_errors = _broker_errors(app)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="arbe-hints")
        self._lock = threading.Lock()
        self._pending: list[Hint] = []
        self._connection: Connection | None = None
        self._declared: set[str] = set()

    def ring(self, hints: Sequence[Hint]) -> None:
        with self._lock:
            idle = not self._pending
            self._pending.extend(hints)
            del self._pending[:-_MAX_PENDING]
        if idle:
            self._executor.submit(self._flush)

    async def echo(self, echo: Echo) -> None:
        await asyncio.wrap_future(self._executor.submit(self._echo, echo))

    async def close(self) -> None:
        self._executor.submit(self._disconnect)
        await asyncio.to_thread(self._executor.shutdown)

    def _flush(self) -> None:
        with self._lock:
            batch, self._pending = self._pending, []
        try:
            self._publish_or_reconnect(batch)
        except Exception as error:  # noqa: BLE001 - whatever the broker does, the sweep rings again
            self._disconnect()
            _lost(batch, error)

    def _echo(self, echo: Echo) -> None:
        try:
            self._publish_or_reconnect([echo])
        except BaseException:
            self._disconnect()
            raise

    def _publish_or_reconnect(self, batch: Sequence[Message]) -> None:
        is_fresh = self._connection is None
        try:
            self._publish(batch)
        except self._broker_errors:
            if is_fresh:
                raise
            # A connection that was idle while the broker restarted tells so only now.
            self._disconnect()
            self._publish(batch)

    def _publish(self, batch: Sequence[Message]) -> None:
        connection = self._connection or self._connect()
        with self._app.amqp.Producer(connection.default_channel) as producer:
            for message in batch:
                self._publish_one(producer, message)

    def _publish_one(self, producer: Any, message: Message) -> None:
        celerys = self._app.amqp.as_task_v2(
            str(uuid4()), message.task, args=tuple(message.arguments), ignore_result=True
        )
        # A worker's own queue is declared by its consumer, to whose connection it belongs.
        is_own = isinstance(message, Echo)
        is_known = is_own or message.queue in self._declared
        producer.publish(
            celerys.body,
            exchange="" if is_own else message.queue,
            routing_key=message.queue,
            declare=[] if is_known else [queue(message.queue, is_redis=False)],
            serializer="json",
            headers=celerys.headers,
            delivery_mode=1 if is_own else 2,
            retry=False,
            **celerys.properties,
        )
        if not is_own:
            self._declared.add(message.queue)

    def _connect(self) -> Connection:
        # Nobody would send heartbeats between two hints, and RabbitMQ would hang up.
        self._connection = self._app.connection_for_write(heartbeat=0)
        self._connection.ensure_connection(max_retries=1, timeout=3)
        self._declared.clear()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be the broken one
                connection.close()


def _by_queue(hints: Sequence[Hint]) -> dict[str, list[Hint]]:
    found: dict[str, list[Hint]] = {}
    for hint in hints:
        found.setdefault(hint.queue, []).append(hint)
    return found


def _lost(batch: Sequence[Hint], error: Exception) -> None:
    _log.warning("hints.lost", count=len(batch), cause=log.scrub(repr(error)))


def _broker_errors(app: Celery) -> tuple[type[BaseException], ...]:
    """Return what a broker that is away, or refuses us, raises here; connects to nothing."""
    connection = app.connection_for_write()
    errors = *connection.connection_errors, *connection.channel_errors
    return (OperationalError, OSError, *errors)


def queue(name: str, *, is_redis: bool) -> Queue:
    """Return the declaration of a queue, durable everywhere, replicated on RabbitMQ.

    The producers' queue is a plain one: services that know only its name declare it so
    themselves, and RabbitMQ refuses two kinds under one name.
    """
    is_plain = is_redis or name == task_names.PRODUCERS_QUEUE
    arguments = None if is_plain else {"x-queue-type": "quorum"}
    return Queue(name, Exchange(name, "direct"), name, queue_arguments=arguments)


def own_queue(name: str, *, is_redis: bool) -> Queue:
    """Return the declaration of a worker process's own queue, by which it hears itself.

    Promise: nothing of it stays: on RabbitMQ it belongs to the consumer's connection and holds
    one message; on Redis it is a list that expires. No exchange knows it.
    """
    if is_redis:
        return Queue(name, Exchange(""), name)
    return Queue(
        name,
        Exchange(""),
        name,
        durable=False,
        exclusive=True,
        auto_delete=True,
        queue_arguments={"x-max-length": 1},
    )


def uses_redis(settings: Settings) -> bool:
    """Tell whether the broker is a Redis, else RabbitMQ."""
    return settings.broker.startswith(("redis://", "rediss://"))


def redis_message(message: Message) -> bytes:
    """Return a message as Celery's protocol 2 message in kombu's Redis envelope."""
    task_id = os.urandom(16).hex()
    body = msgspec.json.encode([message.arguments, {}, _NO_EMBED])
    return msgspec.json.encode(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": message.task,
                "id": task_id,
                "root_id": task_id,
                "parent_id": None,
                "group": None,
                "argsrepr": "",
                "kwargsrepr": "",
                "retries": 0,
                "timelimit": [None, None],
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": task_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": message.queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": task_id,
            },
        }
    )


_NO_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
