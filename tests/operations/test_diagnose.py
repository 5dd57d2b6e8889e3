"""What `diagnose` sees of a thread on real servers."""

from pydantic import SecretStr

from dispatch.config import Settings
from dispatch.ids import ThreadId
from dispatch.models.diagnosis import Diagnosis
from dispatch.operations import diagnose, project, reconcile
from dispatch.operations.record import open_record
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.policy import DispatchPolicy
from dispatch.stores.postgres import agents, engine
from dispatch.streams import keys, lanes
from dispatch.streams import threads as streams
from tests.operations.test_writer import WORKER, assistant, claim, running
from tests.system.houses import Casa


async def look(casa: Casa, thread_id: ThreadId) -> Diagnosis:
    return await diagnose.diagnose(casa.record, casa.who, thread_id)


async def beat(casa: Casa, at_ms: int) -> None:
    await casa.record.connection.call("ZADD", keys.WORKERS, at_ms, WORKER)


async def test_a_run_of_a_dead_worker_is_stalled_with_its_evidence(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    await writer.emit(assistant("secret"))
    await beat(casa, 1)
    found = await look(casa, thread_id)
    await casa.record.connection.call("ZREM", keys.WORKERS, WORKER)

    assert (found.stage, found.dispatch_id) == ("stalled", writer.fence.dispatch_id)
    assert WORKER in found.cause
    assert found.evidence["workerBeatMs"] == 1
    assert found.evidence["effects"] is True
    assert found.evidence["agent"] == "@demo"
    assert 80 <= int(str(found.evidence["secondsLeft"])) <= 90
    assert found.events[0].type == "pi.assistant"
    assert "secret" not in str(found)


async def test_a_dispatch_behind_a_run_names_what_it_waits_for(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    await casa.post(thread_id, "and then?")
    found = await look(casa, thread_id)

    assert found.stage == "waiting"
    assert found.evidence["standsBehind"] == [writer.fence.dispatch_id]
    assert found.evidence["brokerQueue"] == "arbe.turns"
    assert [(lane.stage, lane.queued) for lane in found.lanes] == [("running", 1)]


async def test_each_busy_agent_has_its_lane(casa: Casa) -> None:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        other = await agents.insert(
            connection, house_id=casa.who.house_id, handle="other", runner="demo"
        )
    thread_id = await casa.dm()
    await casa.post(thread_id, "@other hello")
    await claim(casa, thread_id)
    found = await look(casa, thread_id)

    stages = {lane.agent_id: lane.stage for lane in found.lanes}
    assert stages == {str(casa.agent.id): "running", str(other.id): "queued"}


async def test_an_interrupted_run_is_cancelling_and_what_takes_its_place_waits(
    casa: Casa,
) -> None:
    thread_id, writer = await running(casa)
    await streams.accept(
        casa.record.scripts,
        thread_id,
        Chat(by=Author("member", "1", "Ada"), text="no, this"),
        key="k",
        body=b"",
        lanes=(streams.Lane(casa.agent.id, DispatchPolicy(max_attempts=3)),),
        settings=casa.record.settings,
        terms=streams.Terms(when_busy="interrupt"),
    )
    found = await look(casa, thread_id)

    assert (found.stage, found.evidence["queuePosition"]) == ("waiting", 0)
    (lane,) = found.lanes
    assert (lane.stage, lane.dispatch_id) == ("cancelling", writer.fence.dispatch_id)
    assert lane.evidence["cancelReason"] == "interrupted"


async def test_a_run_that_beats_while_its_agent_is_mute_makes_no_progress(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    hour_ago = await lanes.now_ms(casa.record.connection) - 3600_000
    lane = casa.agent.id
    await casa.record.connection.call("HSET", keys.state(thread_id), f"at:{lane}", hour_ago)
    await casa.record.connection.call("HSET", keys.state(thread_id), f"warned:{lane}", hour_ago)
    await writer.renew()
    found = await look(casa, thread_id)

    assert found.stage == "no_progress"
    assert "3600 s" in found.cause


async def test_a_stream_that_redis_forgot_is_stalled(casa: Casa) -> None:
    thread_id, _writer = await running(casa)
    await project.project(casa.record, thread_id)
    await casa.record.connection.call("DEL", keys.stream(thread_id), keys.state(thread_id))
    found = await look(casa, thread_id)

    assert found.stage == "stalled"
    assert "Redis has forgotten" in found.cause
    await reconcile.reconcile(casa.record, thread_id)
    told = await look(casa, thread_id)
    assert told.stage == "failed"
    assert told.events[-1].type == "signal.thread.stream_rollback"


async def test_without_the_broker_a_queued_dispatch_says_so(
    casa: Casa, settings: Settings
) -> None:
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    nowhere = settings.model_copy(update={"broker_url": SecretStr("redis://127.0.0.1:1/0")})
    async with open_record(nowhere) as record:
        found = await diagnose.diagnose(record, casa.who, thread_id)

    assert found.stage == "queued"
    assert [finding.code for finding in found.findings] == ["broker_away"]
