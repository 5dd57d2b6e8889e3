"""Connections that were closed behind redis-py's back, on the API's own loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import uvloop

from dispatch.streams.connection import Connection
from dispatch.streams.subscriber import Subscriber

SECONDS = 60.0


def play(life: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop, which refuses to write to a closed transport where asyncio only warns."""
    uvloop.run(asyncio.wait_for(life, SECONDS))


def test_a_call_on_a_transport_that_was_closed_is_made_on_a_new_one(stream_url: str) -> None:
    async def call_again() -> None:
        connection = Connection(stream_url, timeout_seconds=2.0)
        await connection.call("PING")
        connection._connection._writer.transport.abort()
        calls = [connection.call("ECHO", str(number)) for number in range(3)]
        assert await asyncio.gather(*calls) == [b"0", b"1", b"2"]
        await connection.close()

    play(call_again())


class Heard:
    """Remembers what is said."""

    def __init__(self) -> None:
        self.channels: list[str] = []

    def subscribed(self, channel: str) -> None:
        self.channels.append(channel)

    def heard(self, channel: str, message: bytes) -> None:
        raise AssertionError((channel, message))

    def lost(self) -> None:
        self.channels.append("lost")


def test_a_feed_whose_transport_was_closed_subscribes_again(stream_url: str) -> None:
    async def want_more() -> None:
        told = Heard()
        subscriber = Subscriber(stream_url, told, timeout_seconds=2.0)
        subscriber.want("one")
        await until(lambda: told.channels == ["one"])
        assert subscriber._connection is not None
        subscriber._connection._writer.transport.abort()
        subscriber.want("two")
        await until(lambda: told.channels == ["one", "lost", "one", "two"])
        await subscriber.close()

    play(want_more())


async def until(holds) -> None:
    while not holds():  # noqa: ASYNC110 - the listener is no task
        await asyncio.sleep(0.01)
