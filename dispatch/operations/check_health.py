"""Ask the three servers behind this process whether they answer."""

import asyncio
from collections.abc import Awaitable
from typing import Final, Literal

import anyio
import msgspec

from dispatch.errors import ArbeError
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine

Answer = Literal["up", "down"]
_PATIENCE_SECONDS: Final = 3.0
"""Less than a load balancer waits for a health check."""


class Health(msgspec.Struct, frozen=True):
    """Which servers answer. Without the broker work is accepted and starts later."""

    redis: Answer
    postgres: Answer
    broker: Answer

    @property
    def is_serving(self) -> bool:
        """Tell whether requests can be answered; the broker's absence only delays hints."""
        return self.redis == self.postgres == "up"


async def check_health(record: Record) -> Health:
    """Ask all three at once; one that does not answer within seconds is down."""
    redis, postgres, broker = await asyncio.gather(
        _asked(record.connection.call("PING")),
        _asked(engine.check(record.members)),
        _asked_broker(record),
    )
    return Health(redis=redis, postgres=postgres, broker=broker)


async def broker_answers(record: Record) -> bool:
    """Tell whether the broker answers within seconds."""
    return await _asked_broker(record) == "up"


async def _asked_broker(record: Record) -> Answer:
    return await _asked(
        anyio.to_thread.run_sync(record.transport.check, abandon_on_cancel=True)
    )


async def _asked(question: Awaitable[object]) -> Answer:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await question
    except (ArbeError, TimeoutError):
        return "down"
    return "up"
