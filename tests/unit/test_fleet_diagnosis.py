from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from dispatch.config import Settings
from dispatch.ids import WorkerId
from dispatch.models.diagnosis import LaneVerdict, Sight, Worker
from dispatch.models.diagnosis.fleet import (
    Backlog,
    FleetDiagnosis,
    HouseThreads,
    Seen,
    Swept,
    list_thread,
)
from dispatch.models.diagnosis.servers import (
    BrokerSeen,
    PostgresSeen,
    QueueSeen,
    RedisSeen,
    Servers,
)
from dispatch.models.diagnosis.verdicts import judge
from dispatch.models.state import ThreadState
from tests.unit.test_diagnosis import NOW, THREAD_ID, ask, row, running

WORKER = Worker(WorkerId("host.1.a"), NOW - 2_000, 1)
REDIS = RedisSeen(
    answer="up",
    appendonly=True,
    appendfsync="everysec",
    aof_writes_succeed=True,
    maxmemory_policy="noeviction",
    maxmemory_bytes=100,
    used_memory_bytes=50,
)
POSTGRES = PostgresSeen(answer="up", fsync=True, synchronous_commit="on", is_read_only=False)
BROKER = BrokerSeen(answer="up", kind="redis", queues=(QueueSeen(name="q", messages=5),))
SERVERS = Servers(redis=REDIS, postgres=POSTGRES, broker=BROKER)
THREADS = HouseThreads(stages={"running": 2}, looked_at=2, is_complete=True, listed=())
SWEPT = (Swept(name="redeliver", last_ms=NOW - 1_000, ago_seconds=1),)


def look(*, workers: Sequence[Worker] = (WORKER,), **more: Any) -> FleetDiagnosis:
    well = {
        "servers": SERVERS,
        "sight": Sight(now_ms=NOW, patience=Settings(), workers=workers),
        "backlog": Backlog(lanes=2, overdue=1, oldest_overdue_seconds=2),
        "sweeps": SWEPT,
        "threads": THREADS,
    }
    return judge(Seen(**{**well, **more}))


def codes(found: FleetDiagnosis) -> list[str]:
    for finding in found.findings:
        assert finding.cause
        assert finding.next_step
    return [finding.code for finding in found.findings]


def servers(**changes: Any) -> Servers:
    return replace(SERVERS, **changes)


def test_where_all_is_well_nothing_is_to_do() -> None:
    found = look()

    assert (found.verdict, found.findings) == ("healthy", ())
    assert found.next_step == "Nothing to do."
    assert [worker.is_alive for worker in found.workers or ()] == [True]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"redis": RedisSeen(answer="down")}, "redis_away"),
        ({"postgres": PostgresSeen(answer="down")}, "postgres_away"),
        ({"broker": BrokerSeen(answer="down", kind="redis")}, "broker_away"),
        ({"redis": replace(REDIS, aof_writes_succeed=False)}, "redis_cannot_write"),
        ({"postgres": replace(POSTGRES, is_read_only=True)}, "postgres_read_only"),
    ],
)
def test_where_a_server_is_away_nothing_can_start(changes: dict, code: str) -> None:
    found = look(servers=servers(**changes))

    assert (found.verdict, codes(found)) == ("failed", [code])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"redis": replace(REDIS, appendonly=False)}, "redis_without_aof"),
        ({"redis": replace(REDIS, appendfsync="no")}, "redis_without_fsync"),
        ({"redis": replace(REDIS, maxmemory_policy="allkeys-lru")}, "redis_evicts"),
        ({"redis": replace(REDIS, used_memory_bytes=91)}, "redis_nearly_full"),
        ({"postgres": replace(POSTGRES, fsync=False)}, "postgres_without_fsync"),
        ({"postgres": replace(POSTGRES, synchronous_commit="off")}, "postgres_commits_late"),
    ],
)
def test_an_unsafe_setting_degrades_and_is_named(changes: dict, code: str) -> None:
    found = look(servers=servers(**changes))

    assert (found.verdict, codes(found)) == ("degraded", [code])


def test_what_a_server_does_not_tell_is_not_warned_of() -> None:
    silent = {"redis": RedisSeen(answer="up"), "postgres": PostgresSeen(answer="up")}

    assert look(servers=servers(**silent)).verdict == "healthy"


def test_without_a_living_worker_nothing_can_start() -> None:
    found = look(workers=())

    assert (found.verdict, codes(found)) == ("failed", ["no_worker"])


def test_deaf_workers_take_nothing_and_without_another_nothing_can_start() -> None:
    deaf = replace(WORKER, id=WorkerId("host.2.b"), is_deaf=True)

    one, all_of_them = look(workers=[WORKER, deaf]), look(workers=[deaf])
    assert (one.verdict, codes(one)) == ("degraded", ["workers_deaf"])
    assert (all_of_them.verdict, codes(all_of_them)) == ("failed", ["workers_deaf"])


def test_a_dead_worker_beside_a_living_one_is_repaired_or_missed() -> None:
    dying = replace(WORKER, id=WorkerId("host.2.b"), beat_ms=NOW - 20_000)
    missed = replace(dying, beat_ms=NOW - 60_000)

    assert look(workers=[WORKER, dying]).verdict == "degraded"
    found = look(workers=[WORKER, missed])
    assert (found.verdict, codes(found)) == ("stalled", ["workers_dead"])


def test_lanes_that_nobody_looks_at_are_stalled() -> None:
    found = look(backlog=Backlog(lanes=2, overdue=2, oldest_overdue_seconds=31))

    assert (found.verdict, codes(found)) == ("stalled", ["sweeps_late"])


def test_rows_that_nobody_tells_are_late() -> None:
    found = look(backlog=Backlog(lanes=0, overdue=0, rows_behind=2, oldest_behind_seconds=31))

    assert (found.verdict, codes(found)) == ("degraded", ["rows_late"])


def test_answers_that_nobody_passes_on_are_told() -> None:
    waiting = Backlog(lanes=0, overdue=0, replies=2, oldest_reply_seconds=31)
    found = look(backlog=waiting)
    assert (found.verdict, codes(found)) == ("stalled", ["replies_late"])
    assert found.findings[0].cause.startswith("2 answers")
    assert codes(look(backlog=replace(waiting, oldest_reply_seconds=30))) == []


@pytest.mark.parametrize(
    "swept", [(), (Swept(name="prune", last_ms=NOW - 31_000, ago_seconds=31),)]
)
def test_without_sweeps_there_is_no_beat_or_nobody_listens(swept: tuple[Swept, ...]) -> None:
    piled = replace(BROKER, queues=(QueueSeen(name="arbe.sweeps", messages=9),))

    quiet = look(sweeps=swept)
    assert (quiet.verdict, codes(quiet)) == ("degraded", ["no_beat"])
    missed = look(sweeps=swept, servers=servers(broker=piled))
    assert (missed.verdict, codes(missed)) == ("stalled", ["sweeps_unserved"])


def test_one_sweep_that_does_not_come_to_its_end_is_named() -> None:
    def look_after(seconds: int) -> FleetDiagnosis:
        last_ms = NOW - seconds * 1000
        return look(sweeps=(*SWEPT, Swept(name="prune", last_ms=last_ms, ago_seconds=seconds)))

    found = look_after(91)
    assert (found.verdict, codes(found)) == ("degraded", ["sweep_missing"])
    assert "`prune`" in found.cause
    assert look_after(24 * 3600).verdict == "healthy"  # it has left the timetable


def test_a_queue_without_a_taker_is_stalled_once_something_waits_in_it() -> None:
    def with_queue(**fields: Any) -> FleetDiagnosis:
        queues = (QueueSeen(name="gpu", **fields),)
        return look(servers=servers(broker=replace(BROKER, queues=queues)))

    assert codes(with_queue(messages=1, consumers=0)) == ["queue_unserved"]
    assert with_queue(messages=0, consumers=0).verdict == "healthy"
    assert with_queue(messages=1, consumers=1).verdict == "healthy"


def test_threads_that_stand_still_are_counted() -> None:
    found = look(threads=replace(THREADS, stages={"stalled": 3, "running": 1}))

    assert (found.verdict, codes(found)) == ("stalled", ["threads_stalled"])
    assert "3 of the house's threads" in found.cause


def test_threads_with_a_mute_agent_are_counted() -> None:
    found = look(threads=replace(THREADS, stages={"no_progress": 1}))

    assert (found.verdict, codes(found)) == ("degraded", ["threads_mute"])


def test_the_gravest_finding_speaks_first() -> None:
    found = look(
        workers=(),
        backlog=Backlog(lanes=1, overdue=1, oldest_overdue_seconds=99),
        servers=servers(redis=replace(REDIS, appendonly=False)),
    )

    assert codes(found) == ["no_worker", "sweeps_late", "redis_without_aof"]
    assert (found.verdict, found.cause) == ("failed", found.findings[0].cause)


def test_a_thread_is_listed_by_the_worst_of_its_lanes() -> None:
    state = running(at_ms=0)
    listed = list_thread(row(status="running"), state, ask(state, row=row()))

    assert (listed.thread_id, listed.stage) == (THREAD_ID, "stalled")
    assert listed.agent_id == "agent"


def test_a_thread_that_redis_forgot_is_listed_as_that() -> None:
    later = row(stream_id="001699999000000_0000000004")
    found = ask(running(), row=later)
    assert isinstance(found.lanes[0], LaneVerdict)
    listed = list_thread(later, running(), found)

    assert (listed.stage, listed.agent_id, listed.since_ms) == ("stalled", None, 1699999000000)
    assert list_thread(row(stream_id=""), ThreadState(), ask(ThreadState())).since_ms > 0
