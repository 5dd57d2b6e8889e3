"""Redis was away: whose beats could not be heard is not dead."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dispatch.errors import Unavailable
from dispatch.operations.record import Record, open_record
from dispatch.streams import keys, lanes
from tests.operations.test_writer import WORKER, running
from tests.system.conftest import new_system
from tests.system.houses import Casa, found_casa
from tests.system.test_forgetful_redis import Server, server
from workers.sweeps import reconcile as reconcile_sweep

__all__ = ["server"]
OUTAGE_SECONDS = 60
"""Longer than a worker may be silent, shorter than a lease."""


@pytest_asyncio.fixture
async def casa(server: Server, postgres_url: str) -> AsyncIterator[Casa]:
    settings = new_system(postgres_url, server.redis.url, name="arbe_outages", first_db=0)
    seconds = {"worker_dead_seconds": 15.0, "lease_seconds": 90.0, "heartbeat_seconds": 5.0}
    async with found_casa(settings.model_copy(update=seconds)) as made:
        # As every few seconds in a living system.
        await beat(made, ago_seconds=1)
        await reconcile_sweep.sweep(made.record)
        yield made


async def beat(casa: Casa, *, ago_seconds: int) -> None:
    now = await lanes.now_ms(casa.record.connection)
    await casa.record.connection.call("ZADD", keys.WORKERS, now - ago_seconds * 1000, WORKER)


async def watch_since_the_beginning(casa: Casa) -> None:
    boot = await casa.record.connection.boot()
    await casa.record.connection.call("SET", keys.WATCH, f"{boot} 0")


async def dead(record: Record) -> list[str]:
    """Return the workers a sweep would take for dead; their runs have signs of their own."""
    return list(
        await lanes.list_dead_workers(record.connection, dead_after_seconds=15, limit=9)
    )


async def test_an_outage_makes_no_worker_dead(casa: Casa, server: Server) -> None:
    thread_id, _ = await running(casa)
    await beat(casa, ago_seconds=OUTAGE_SECONDS)
    server.kill()
    await server.start()
    async with open_record(casa.record.settings) as fresh:
        assert await dead(fresh) == []
        await reconcile_sweep.sweep(fresh)
        assert "signal.dispatch.run_lost" not in await casa.types(thread_id)
        # Silent for as long once more, this time unheard for no reason but its own:
        await watch_since_the_beginning(casa)
        assert await dead(fresh) == [WORKER]


async def test_who_could_not_reach_redis_judges_nobody(casa: Casa, server: Server) -> None:
    await running(casa)
    await beat(casa, ago_seconds=OUTAGE_SECONDS)
    server.kill()
    with pytest.raises(Unavailable):
        await lanes.now_ms(casa.record.connection)
    await server.start()
    await watch_since_the_beginning(casa)
    assert await dead(casa.record) == []
