"""What `diagnose --fleet` sees on real servers; those are shared with other tests' houses."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.ids import BEGINNING, DispatchId, ThreadId, WorkerId
from dispatch.models.diagnosis.fleet import FleetDiagnosis
from dispatch.operations import delete_thread, diagnose_fleet
from dispatch.operations import project as projecting
from dispatch.operations.record import open_record
from dispatch.streams import fleet, keys, lanes, replies
from dispatch.streams.replies import ReplyRef
from tests.operations.test_writer import assistant, running
from tests.system.houses import Casa, found_casa

LIVING = WorkerId("test.9.living")


@pytest_asyncio.fixture
async def living(casa: Casa) -> AsyncIterator[WorkerId]:
    await lanes.beat(casa.record.connection, LIVING)
    yield LIVING
    await lanes.leave(casa.record.connection, LIVING)


async def stalled(casa: Casa) -> ThreadId:
    """Make a thread whose run's lease is over, while no sweep runs here."""
    thread_id, writer = await running(casa)
    await writer.emit(assistant("seen"))
    await projecting.project(casa.record, thread_id)
    await casa.record.connection.call("HSET", keys.state(thread_id), f"hard:{casa.agent.id}", 1)
    return thread_id


async def look(casa: Casa, **page: object) -> FleetDiagnosis:
    return await diagnose_fleet.diagnose_fleet(casa.record, casa.who, **page)


def codes(found: FleetDiagnosis) -> set[str]:
    return {finding.code for finding in found.findings}


async def test_stuck_threads_are_counted_and_listed_for_their_own_house_only(
    casa: Casa, settings: Settings, living: WorkerId
) -> None:
    stuck = await stalled(casa)
    queued = await casa.dm()
    await casa.post(queued, "hello")
    await casa.dm()
    async with found_casa(settings) as other:
        theirs = await look(other)
    ours = await look(casa)

    assert theirs.threads is not None
    assert (theirs.threads.stages, theirs.threads.listed) == ({}, ())
    assert ours.verdict == "stalled"
    assert ours.threads is not None
    assert ours.threads.stages == {"stalled": 1, "queued": 1}
    assert [thread.thread_id for thread in ours.threads.listed] == [stuck]
    assert ours.threads.listed[0].agent_id == str(casa.agent.id)
    assert living in {worker.worker_id for worker in ours.workers or ()}
    assert ours.backlog is not None
    assert ours.backlog.lanes >= 2
    assert {queue.name for queue in ours.servers.broker.queues} >= {"arbe.turns", "arbe.sweeps"}


async def test_stuck_threads_come_in_pages_the_longest_stuck_first(
    casa: Casa, living: WorkerId
) -> None:
    made = [await stalled(casa) for _ in range(3)]
    seen, cursor = [], None
    while True:
        found = await look(casa, limit=1, cursor=cursor)
        assert found.threads is not None
        assert found.threads.stages == {"stalled": 3}
        seen += [thread.thread_id for thread in found.threads.listed]
        cursor = found.threads.next_cursor
        if cursor is None:
            break
    assert seen == made
    for thread_id in made:
        await delete_thread.delete_thread(casa.record, casa.who, thread_id)
    assert (await look(casa)).threads is not None


@pytest.mark.parametrize("cursor", ["x", "1.2", "a.b.c", ""])
async def test_a_cursor_of_somebody_elses_making_is_refused(casa: Casa, cursor: str) -> None:
    with pytest.raises(Invalid):
        await look(casa, cursor=cursor)


@pytest.mark.parametrize(
    ("name", "safe", "unsafe", "code"),
    [
        ("appendfsync", "everysec", "no", "redis_without_fsync"),
        ("appendonly", "yes", "no", "redis_without_aof"),
        ("maxmemory-policy", "noeviction", "allkeys-lru", "redis_evicts"),
    ],
)
async def test_an_unsafe_redis_is_warned_of(
    casa: Casa, name: str, safe: str, unsafe: str, code: str
) -> None:
    connection = casa.record.connection
    before = (await connection.call("CONFIG", "GET", name))[name.encode()]
    try:
        await connection.call("CONFIG", "SET", name, safe)
        assert code not in codes(await look(casa))
        await connection.call("CONFIG", "SET", name, unsafe)
        assert code in codes(await look(casa))
    finally:
        await connection.call("CONFIG", "SET", name, before)


async def test_answers_that_wait_to_be_passed_on_are_counted(casa: Casa) -> None:
    refs = [ReplyRef(await casa.dm(), DispatchId(f"{BEGINNING}.{number}")) for number in (0, 1)]
    before = (await look(casa)).backlog
    for ref, seconds in zip(refs, (-100, 100), strict=True):
        await replies.note(casa.record.connection, ref, after_seconds=seconds)
    after = (await look(casa)).backlog
    for ref in refs:
        await replies.settle(casa.record.connection, ref)

    assert before is not None
    assert after is not None
    assert after.replies == before.replies + 2
    assert after.oldest_reply_seconds >= 100


async def test_a_sweep_that_ran_is_remembered(casa: Casa) -> None:
    await fleet.note_sweep(casa.record.connection, "redeliver")
    (swept,) = (each for each in (await look(casa)).sweeps or () if each.name == "redeliver")
    await casa.record.connection.call("DEL", keys.SWEEPS)

    assert swept.ago_seconds <= 60


@pytest.mark.parametrize(
    ("server", "code"), [("stream_url", "redis_away"), ("broker_url", "broker_away")]
)
async def test_a_server_that_is_away_is_named_and_the_rest_is_told(
    casa: Casa, settings: Settings, server: str, code: str
) -> None:
    nowhere = {"broker_url": SecretStr(settings.broker), "stream_timeout_seconds": 0.5}
    changed = settings.model_copy(
        update={**nowhere, server: SecretStr("redis://127.0.0.1:1/0")}
    )
    async with open_record(changed) as record:
        found = await diagnose_fleet.diagnose_fleet(record, casa.who)

    assert found.verdict == "failed"
    assert code in codes(found)
    assert found.servers.postgres.answer == "up"
    assert (found.workers is None) == (server == "stream_url")
