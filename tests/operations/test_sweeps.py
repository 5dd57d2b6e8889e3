"""Each sweep as one step: what it finds is data, no test waits for a clock."""

import asyncio
import base64
import json

import psycopg
import pytest

from dispatch.errors import Fenced
from dispatch.ids import AgentId, ThreadId, WorkerId
from dispatch.models.claims import Claim, Scope
from dispatch.operations import delete_thread, idempotency, project, prune, reconcile
from dispatch.operations.idempotency import Answer, Call
from dispatch.payloads.signals import Completed
from dispatch.stores.postgres import engine, threads
from dispatch.streams import keys, lanes, runs
from dispatch.streams.connection import Connection
from dispatch.task_names import TURNS_QUEUE
from tests.operations.test_writer import assistant, claim, running
from tests.system.houses import Casa
from workers.sweeps import prune as prune_sweep
from workers.sweeps import reconcile as reconcile_sweep
from workers.sweeps import redeliver


async def long_due(casa: Casa, thread_id: ThreadId) -> None:
    member = keys.due_member(thread_id, casa.agent.id)
    await casa.record.connection.call("ZADD", keys.DUE, 1, member)


async def hints(casa: Casa, thread_id: ThreadId) -> int:
    """Count the thread's hints on the broker."""
    broker = Connection(casa.record.settings.broker, timeout_seconds=5)
    found = await broker.call("LRANGE", TURNS_QUEUE, 0, -1)
    await broker.close()
    bodies = [json.loads(message)["body"] for message in found]
    return sum(_names(body, thread_id) for body in bodies)


def _names(body: str, thread_id: ThreadId) -> bool:
    return str(thread_id).encode() in base64.b64decode(body)


async def wait_hints(casa: Casa, thread_id: ThreadId, count: int) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while await hints(casa, thread_id) != count:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def test_a_lost_hint_is_sent_again(casa: Casa) -> None:
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    await wait_hints(casa, thread_id, 1)
    await redeliver.sweep(casa.record)
    assert await hints(casa, thread_id) == 1  # not due yet
    await long_due(casa, thread_id)
    await redeliver.sweep(casa.record)
    await wait_hints(casa, thread_id, 2)


async def test_a_living_run_is_left_alone_and_looked_at_again_later(casa: Casa) -> None:
    thread_id, _writer = await running(casa)
    await long_due(casa, thread_id)
    await redeliver.sweep(casa.record)
    assert (await casa.state(thread_id)).lanes[str(casa.agent.id)].run is not None
    member = keys.due_member(thread_id, casa.agent.id)
    due = float(await casa.record.connection.call("ZSCORE", keys.DUE, member))
    assert due > await lanes.now_ms(casa.record.connection)


async def test_two_sweeps_at_once_end_a_dead_workers_run_once(
    casa: Casa, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = casa.record.settings.model_copy(update={"worker_dead_seconds": 0.0})
    monkeypatch.setattr(casa.record, "settings", settings)
    thread_id, writer = await running(casa)
    await writer.emit(assistant("seen"))
    await project.project(casa.record, thread_id)
    worker = WorkerId("test.1.a")
    await casa.record.connection.call("ZADD", keys.WORKERS, 1, worker)
    await asyncio.gather(*(reconcile_sweep.sweep(casa.record) for _ in range(4)))
    types = await casa.types(thread_id)
    assert types.count("signal.dispatch.failed") == 1
    assert types.count("signal.thread.pi_session_orphaned") == 1
    assert (await casa.row(thread_id)).status == "failed"
    assert await lanes.beat_at(casa.record.connection, worker) is None


async def test_a_worker_whose_run_gives_signs_is_not_forgotten(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    await writer.emit(assistant("seen"))
    worker = WorkerId("test.1.a")
    await casa.record.connection.call("ZADD", keys.WORKERS, 1, worker)
    await reconcile_sweep.sweep(casa.record)
    assert (await casa.types(thread_id))[-1] == "pi.assistant"
    assert await lanes.beat_at(casa.record.connection, worker) == 1
    assert len(await lanes.list_runs(casa.record.connection, worker)) == 1


async def test_a_row_that_lags_is_repaired_by_a_reader_and_by_the_sweep(casa: Casa) -> None:
    for repair in ("reader", "sweep"):
        thread_id, writer = await running(casa)
        await project.project(casa.record, thread_id)
        assert (await casa.row(thread_id)).status == "running"
        done = Completed(dispatch_id=writer.fence.dispatch_id, run_id=writer.fence.run_id)
        await writer.finish(done)
        assert (await casa.row(thread_id)).status == "running"
        if repair == "reader":
            done_by = await reconcile.reconcile(casa.record, thread_id)
            assert (done_by.before, done_by.after) == ("running", "open")
        else:
            await prune_sweep.sweep(casa.record)
        assert (await casa.row(thread_id)).status == "open"


async def orphan(casa: Casa) -> ThreadId:
    """Make a row that says `running` and whose stream is lost."""
    thread_id, _writer = await running(casa)
    await project.project(casa.record, thread_id)
    stream_keys = [keys.stream(thread_id), keys.state(thread_id)]
    await casa.record.connection.call("DEL", *stream_keys)
    return thread_id


async def test_the_sweep_fails_an_orphan_and_a_member_deletes_it(casa: Casa) -> None:
    swept = await orphan(casa)
    await prune_sweep.sweep(casa.record)
    assert (await casa.row(swept)).status == "failed"
    pruned = await orphan(casa)
    dry = await prune.prune(casa.record, who=casa.who, dry_run=True)
    assert dry["orphans"] == 1
    counts = await prune.prune(casa.record, who=casa.who)
    assert counts["orphans"] == 1
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        assert await threads.find(connection, thread_id=pruned) is None
        assert await threads.find(connection, thread_id=swept) is not None


async def test_the_sweep_notices_a_stream_that_is_shorter_than_its_row(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    fence = writer.fence
    await writer.finish(Completed(dispatch_id=fence.dispatch_id, run_id=fence.run_id))
    call = casa.record.connection.call
    names = [keys.stream(thread_id), keys.state(thread_id)]
    held = [await call("DUMP", name) for name in names]
    await casa.post(thread_id, "and then?")
    lost = await claim(casa, thread_id)
    await project.project(casa.record, thread_id)
    for name, dumped in zip(names, held, strict=True):
        await call("RESTORE", name, 0, dumped, "REPLACE")
    await prune_sweep.sweep(casa.record)
    assert (await casa.row(thread_id)).status == "failed"
    assert (await casa.types(thread_id))[-1] == "signal.thread.stream_rollback"
    with pytest.raises(Fenced):
        await runs.renew(casa.record.scripts, lost.fence)


async def test_a_deletion_that_died_half_way_is_finished_by_the_sweep(casa: Casa) -> None:
    thread_id, _writer = await running(casa)
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        await threads.delete_tree(connection, thread_id=thread_id)
    # Here the process dies: the row is gone, the stream is not.
    assert await casa.entries(thread_id)
    await prune_sweep.sweep(casa.record)
    assert not await casa.entries(thread_id)
    assert await delete_thread.delete_thread(casa.record, casa.who, thread_id) == 0


async def test_the_sweep_forgets_keys_that_are_two_days_old(
    casa: Casa, postgres_url: str
) -> None:
    who = casa.who
    scope = Scope(member_id=who.member_id, house_id=who.house_id)
    for key in ("old", "new"):
        call = Call(scope=scope, token="t", key=key, request=(b"x",))
        claim = await idempotency.begin(casa.record, call)
        assert isinstance(claim, Claim)
        await idempotency.keep(casa.record, call, claim, Answer(201, [], key.encode()))
        if key == "old":
            async with await psycopg.AsyncConnection.connect(postgres_url) as admin:
                await admin.execute(
                    "update idempotency set claimed_until = now(), "
                    "created_at = now() - interval '49 h' where member_id = %s",
                    [who.member_id],
                )
    assert (await prune_sweep.sweep(casa.record))["keys"] >= 1
    found = await idempotency.begin(casa.record, call)
    assert found == Answer(201, [], b"new")


async def test_a_claim_is_refused_while_another_runs(casa: Casa) -> None:
    thread_id, writer = await running(casa)
    await casa.post(thread_id, "and then?")
    state = await casa.state(thread_id)
    assert len(state.lanes[str(AgentId(casa.agent.id))].queue) == 1
    done = Completed(dispatch_id=writer.fence.dispatch_id, run_id=writer.fence.run_id)
    await writer.finish(done)
    following = await claim(casa, thread_id)
    assert following.fence.dispatch_id > writer.fence.dispatch_id
