"""What waits at the broker, for a diagnosis: looked at, never changed.

Beside `transport` it is the only module of the record that knows kombu. Not guaranteed: that a
broker tells who takes from a queue; a Redis does not.
"""

from collections.abc import Iterable
from typing import Any

from kombu import Connection
from kombu.exceptions import OperationalError

from dispatch import transport
from dispatch.config import Settings
from dispatch.errors import Unavailable
from dispatch.models.diagnosis.servers import QueueSeen


def measure(settings: Settings, names: Iterable[str]) -> tuple[QueueSeen, ...]:
    """Return how much waits in some queues. Blocks; call it on an OS thread.

    Raises: Unavailable.
    """
    options = transport.celery_settings(settings)
    with Connection(
        options["broker_url"],
        connect_timeout=options["broker_connection_timeout"],
        transport_options=options["broker_transport_options"],
    ) as connection:
        errors: tuple[type[BaseException], ...] = (
            OperationalError,
            OSError,
            *connection.connection_errors,
            *connection.channel_errors,
        )
        try:
            connection.ensure_connection(max_retries=1, timeout=3)
            is_redis = transport.uses_redis(settings)
            return tuple(_measure(connection, name, is_redis=is_redis) for name in names)
        except errors as error:
            raise Unavailable("The broker", cause=type(error).__name__) from error


def _measure(connection: Connection, name: str, *, is_redis: bool) -> QueueSeen:
    try:
        # A queue that is not there costs the channel: each name has its own.
        channel: Any = connection.channel()
        with channel:
            found = channel.queue_declare(name, passive=True)
    except connection.channel_errors:
        # An empty list of Redis does not exist.
        return QueueSeen(name=name, messages=0 if is_redis else None)
    return QueueSeen(
        name=name,
        messages=found.message_count,
        consumers=None if is_redis else found.consumer_count,
    )
