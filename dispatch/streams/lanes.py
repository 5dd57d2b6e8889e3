"""The due index and the workers' signs of life: what the sweeps look at.

`expire` decides by Redis's clock and is safe at any time, by anybody, any number of times.
"""

import asyncio
from typing import Literal
from uuid import UUID

import msgspec

from dispatch.config import Settings
from dispatch.ids import AgentId, EntryId, RunId, ThreadId, WorkerId
from dispatch.streams import keys
from dispatch.streams.connection import Connection
from dispatch.streams.scripts import Scripts

Verdict = Literal[
    "live",
    "warned",
    "stopping",
    "hint",
    "wait",
    "delegating",
    "none",
    "lost",
    "failed",
    "cancelled",
    "gone",
    "no_thread",
]
ENDED: frozenset[Verdict] = frozenset({"lost", "failed", "cancelled"})
"""Verdicts that changed the thread: its row must be projected again."""


class LaneRef(msgspec.Struct, frozen=True):
    """A lane as the due index names it."""

    thread_id: ThreadId
    lane: AgentId


async def expire(
    scripts: Scripts,
    ref: LaneRef,
    *,
    settings: Settings,
    dead_run: RunId | None = None,
) -> Verdict:
    """Look at one lane and do what its clocks demand.

    Args: dead_run: a run whose worker process was found dead: its lease is over at once, unless
        it has given a sign of life meanwhile.
    """
    answer = await scripts.run(
        "expire",
        [keys.stream(ref.thread_id), keys.state(ref.thread_id), keys.DUE, keys.DIRTY],
        str(ref.lane),
        dead_run or "",
        int(settings.start_timeout_seconds * 1000),
        int(settings.redeliver_after_seconds * 1000),
        int(settings.cancel_grace_seconds * 1000),
        int(settings.worker_dead_seconds * 1000),
    )
    verdict: Verdict = answer[0].decode().lower()
    return verdict


async def list_due(connection: Connection, *, limit: int) -> list[LaneRef]:
    """Return lanes somebody must look at now, the longest due first."""
    now = await now_ms(connection)
    found = await connection.call("ZRANGEBYSCORE", keys.DUE, "-inf", now, "LIMIT", 0, limit)
    return [lane_ref(member) for member in found]


async def list_dirty(
    connection: Connection, *, older_than_seconds: float, limit: int
) -> list[ThreadId]:
    """Return threads whose row has not been told for that long how they stand."""
    before = await now_ms(connection) - int(older_than_seconds * 1000)
    found = await connection.call(
        "ZRANGEBYSCORE", keys.DIRTY, "-inf", before, "LIMIT", 0, limit
    )
    return [ThreadId(UUID(thread_id.decode())) for thread_id in found]


async def is_dirty(connection: Connection, thread_id: ThreadId) -> bool:
    """Tell whether a thread's row may not know how the thread stands."""
    return await connection.call("ZSCORE", keys.DIRTY, str(thread_id)) is not None


async def projected(scripts: Scripts, thread_id: ThreadId, mark: EntryId) -> None:
    """Note that a thread's row is up to a mark; it stays dirty if it has moved on since."""
    await scripts.run(
        "projected", [keys.stream(thread_id), keys.state(thread_id), keys.DIRTY], mark
    )


async def beat(connection: Connection, worker_id: WorkerId) -> None:
    """Say that a worker process lives."""
    now = await now_ms(connection)
    await connection.call("ZADD", keys.WORKERS, now, worker_id)


async def leave(connection: Connection, worker_id: WorkerId) -> None:
    """Say that a worker process ended by itself and holds nothing."""
    # In this order: a worker in the index that holds nothing is forgotten by the sweep.
    await connection.call("DEL", keys.runs(worker_id))
    await connection.call("ZREM", keys.WORKERS, worker_id)


async def list_dead_workers(
    connection: Connection, *, dead_after_seconds: float, limit: int
) -> list[WorkerId]:
    """Return worker processes that did not beat for that long, though they could be heard."""
    now = await now_ms(connection)
    if not await _heard_for(connection, dead_after_seconds, now=now):
        return []
    found = await connection.call(
        "ZRANGEBYSCORE",
        keys.WORKERS,
        "-inf",
        now - int(dead_after_seconds * 1000),
        "LIMIT",
        0,
        limit,
    )
    return [WorkerId(worker.decode()) for worker in found]


async def list_living_workers(
    connection: Connection, *, alive_within_seconds: float
) -> list[WorkerId]:
    """Return worker processes that beat within that time; there are only a few."""
    now = await now_ms(connection)
    found = await connection.call(
        "ZRANGEBYSCORE", keys.WORKERS, now - int(alive_within_seconds * 1000), "+inf"
    )
    return [WorkerId(worker.decode()) for worker in found]


async def is_dead(
    connection: Connection, worker_id: WorkerId, *, dead_after_seconds: float
) -> bool:
    """Tell whether a worker process has beaten before and then stopped for that long.

    One that is not in the index is not known dead: it left by itself, or the index was lost;
    its runs end with their leases. Nor is one that could not be heard: see `_heard_for`.
    """
    last, now = await asyncio.gather(beat_at(connection, worker_id), now_ms(connection))
    if last is None or now - last <= dead_after_seconds * 1000:
        return False
    return await _heard_for(connection, dead_after_seconds, now=now)


async def _heard_for(connection: Connection, seconds: float, *, now: int) -> bool:
    """Tell whether a worker that lives must have been heard within that time.

    After an outage of Redis every last beat is old, and a restored file may hold older ones
    still. Silence counts from the first look under this start of the server, and only for a
    process that had no trouble itself to reach it meanwhile.
    """
    if connection.undisturbed_seconds < seconds:
        return False
    boot = await connection.boot()
    known = await connection.call("GET", keys.WATCH)
    known_boot, _, since = known.decode().partition(" ") if known is not None else ("", "", "0")
    if known_boot != boot:
        # Never written before: the workers known here were heard by this start of the server.
        since = "0" if known is None else str(now)
        await connection.call("SET", keys.WATCH, f"{boot} {since}")
    return now - int(since) > seconds * 1000


async def beat_at(connection: Connection, worker_id: WorkerId | None) -> int | None:
    """Return when a worker process last beat (None: any of them), in Unix ms of Redis."""
    if worker_id is not None:
        score = await connection.call("ZSCORE", keys.WORKERS, worker_id)
        return int(float(score)) if score is not None else None
    newest = await connection.call("ZREVRANGE", keys.WORKERS, 0, 0, "WITHSCORES")
    return int(newest[0][1]) if newest else None


async def now_ms(connection: Connection) -> int:
    """Return Redis's clock in Unix milliseconds."""
    seconds, micros = await connection.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def list_runs(connection: Connection, worker_id: WorkerId) -> list[LaneRef]:
    """Return the lanes a worker claimed; some may have gone on without it."""
    found = await connection.call("SMEMBERS", keys.runs(worker_id))
    return [lane_ref(member) for member in found]


async def holder(connection: Connection, ref: LaneRef) -> tuple[RunId, WorkerId] | None:
    """Return who holds a lane's open run, if there is one."""
    run, worker = await connection.call(
        "HMGET", keys.state(ref.thread_id), f"run:{ref.lane}", f"worker:{ref.lane}"
    )
    if run is None or worker is None:
        return None
    return RunId(run.decode().rpartition(",")[2]), WorkerId(worker.decode())


async def forget_worker(
    connection: Connection, worker_id: WorkerId, refs: list[LaneRef]
) -> None:
    """Drop a dead worker whose lanes were all looked at; a paused one beats again."""
    if refs:
        members = [keys.due_member(ref.thread_id, ref.lane) for ref in refs]
        await connection.call("SREM", keys.runs(worker_id), *members)
    await connection.call("ZREM", keys.WORKERS, worker_id)


def lane_ref(member: bytes) -> LaneRef:
    """Read a lane's name in the due index."""
    thread_id, _, lane = member.decode().partition("|")
    return LaneRef(ThreadId(UUID(thread_id)), AgentId(UUID(lane)))
