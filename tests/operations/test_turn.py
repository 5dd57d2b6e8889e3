"""A turn's edges: what happens when the record is only half there."""

import asyncio

import pytest
from pydantic import SecretStr

from dispatch import ids
from dispatch.config import Settings
from dispatch.ids import WorkerId
from dispatch.operations.record import open_record
from dispatch.payloads.signals import Failed
from dispatch.stores.postgres import agents, engine
from dispatch.streams import runs
from dispatch.streams.lanes import LaneRef
from tests.system.houses import Casa
from workers import turn
from workers.heartbeat import Heartbeats

WORKER = WorkerId("test.2.b")
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def heartbeats(casa: Casa) -> Heartbeats:
    return Heartbeats(casa.record.connection, worker_id=WORKER, settings=casa.record.settings)


async def test_without_postgres_a_dispatch_is_given_back_once_and_then_left_alone(
    casa: Casa, settings: Settings
) -> None:
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    ref = LaneRef(thread_id, casa.agent.id)
    without = settings.model_copy(update={"database_url": SecretStr(NOWHERE)})
    async with open_record(without) as record:
        for _ in range(3):
            await turn.run_lane(record, heartbeats(casa), ref)
    types = await casa.types(thread_id)
    assert types.count("signal.dispatch.started") == 1
    assert types[-1] == "signal.dispatch.released"
    assert await turn.run_lane(casa.record, heartbeats(casa), ref) == 1
    assert (await casa.types(thread_id))[-1] == "signal.dispatch.completed"


async def test_two_hints_at_once_make_one_run(casa: Casa) -> None:
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    ref = LaneRef(thread_id, casa.agent.id)
    counts = await asyncio.gather(
        *(turn.run_lane(casa.record, heartbeats(casa), ref) for _ in range(5))
    )
    assert sorted(counts) == [0, 0, 0, 0, 1]
    assert (await casa.types(thread_id)).count("signal.dispatch.completed") == 1


async def test_a_worker_that_comes_after_a_lease_ends_it_and_the_row_says_so(
    casa: Casa,
) -> None:
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    claimed = await runs.claim(
        casa.record.scripts,
        thread_id,
        casa.agent.id,
        run_id=ids.new_run_id(),
        worker_id=WORKER,
        lease_seconds=0.001,
    )
    assert isinstance(claimed, runs.Claimed)
    await asyncio.sleep(0.01)
    ref = LaneRef(thread_id, casa.agent.id)
    await turn.run_lane(casa.record, heartbeats(casa), ref)
    assert "signal.dispatch.run_lost" in await casa.types(thread_id)
    assert (await casa.row(thread_id)).status == "running"  # it backs off, then runs again


async def test_an_agent_nobody_can_run_fails_the_dispatch_and_says_what_to_do(
    casa: Casa,
) -> None:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        await agents.update(connection, agent_id=casa.agent.id, runner="nothing-such")
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    await turn.run_lane(casa.record, heartbeats(casa), LaneRef(thread_id, casa.agent.id))
    failed = (await casa.entries(thread_id))[-1].payload
    assert "nothing-such" in str(getattr(failed, "message", ""))


@pytest.mark.parametrize("runner", ["demo", "pi", "python"])
async def test_a_key_is_not_sent_to_an_address_that_nobody_allowed(
    casa: Casa, runner: str
) -> None:
    config = {"apiKeyEnv": "OPENAI_API_KEY", "baseUrl": "https://evil.example/v1"}
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        await agents.update(connection, agent_id=casa.agent.id, runner=runner, config=config)
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    await turn.run_lane(casa.record, heartbeats(casa), LaneRef(thread_id, casa.agent.id))
    failed = (await casa.entries(thread_id))[-1].payload
    assert isinstance(failed, Failed)
    assert failed.reason == "invalid"
    assert "https://evil.example/v1" in (failed.message or "")
    assert not [each for each in await casa.types(thread_id) if each.startswith("pi.")]
