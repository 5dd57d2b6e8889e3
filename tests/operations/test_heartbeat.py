"""Signs of life of a process: nothing that hangs in one run holds up the others, or its own."""

import asyncio

import pytest

from dispatch.ids import WorkerId
from dispatch.streams import lanes
from tests.operations.test_writer import running
from tests.system.houses import Casa
from workers.heartbeat import Heartbeats

WORKER = WorkerId("test.1.heartbeat")


async def test_a_renewal_that_hangs_holds_up_no_other_and_no_beat(
    casa: Casa, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stuck = await running(casa)
    _, fine = await running(casa)
    renewed: list[object] = []

    async def hang() -> None:
        renewed.append(stuck)
        await asyncio.Event().wait()

    async def renew() -> None:
        renewed.append(fine)

    monkeypatch.setattr(stuck, "renew", hang)
    monkeypatch.setattr(fine, "renew", renew)
    settings = casa.record.settings.model_copy(update={"heartbeat_seconds": 0.0})
    connection = casa.record.connection
    beats: set[int | None] = set()
    heartbeats = Heartbeats(connection, worker_id=WORKER, settings=settings)
    with heartbeats.tracking(stuck), heartbeats.tracking(fine):
        beating = asyncio.create_task(heartbeats.beat_for_ever())
        async with asyncio.timeout(60):
            while renewed.count(fine) < 2 or len(beats) < 2:
                beats.add(await lanes.beat_at(connection, WORKER))
                await asyncio.sleep(0.05)
        beating.cancel()
    assert renewed.count(stuck) == 1
    await lanes.leave(connection, WORKER)
