"""What tests do to a broker, whichever it is."""

import asyncio
from typing import Final

import pytest
from amqp.exceptions import ChannelError
from kombu import Connection

from dispatch import task_names, transport
from dispatch.config import Settings
from tests.system.processes import wait_until

on_both: Final = pytest.mark.parametrize(
    "system",
    ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)],
    indirect=True,
)
"""The same promise over Redis and over RabbitMQ."""


def purge(settings: Settings, name: str) -> int:
    """Empty a queue; return how many messages it held."""
    declaration = transport.queue(name, is_redis=transport.uses_redis(settings))
    with Connection(settings.broker) as connection:
        queue = declaration(connection.default_channel)
        queue.declare()
        return int(queue.purge())


async def lose_the_hints(settings: Settings) -> None:
    """Empty the turns' queue once a hint is there, as a broker without persistence dies."""
    # On another thread: the hint leaves by the loop.
    await asyncio.to_thread(wait_until, lambda: purge(settings, task_names.TURNS_QUEUE) > 0)


def depth(settings: Settings, name: str) -> int:
    """Return how many messages wait in a queue, as the broker says; 0 if it is not there.

    An empty list of Redis does not exist.
    """
    with Connection(settings.broker) as connection:
        try:
            found = connection.default_channel.queue_declare(name, passive=True)
        except ChannelError:
            return 0
        return int(found.message_count)
