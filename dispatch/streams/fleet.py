"""What all houses share, as numbers and ids: workers, due lanes, sweeps, Redis itself.

Not guaranteed: one moment for all that is read; each number is true by itself.
"""

import asyncio
from typing import Any, Final

from redis.exceptions import ResponseError

from dispatch.ids import WorkerId
from dispatch.models.diagnosis import Worker
from dispatch.models.diagnosis.fleet import Backlog, Swept
from dispatch.models.diagnosis.servers import RedisSeen
from dispatch.streams import deafness, keys, lanes
from dispatch.streams.connection import Connection
from dispatch.streams.lanes import LaneRef

_MAX_WORKERS: Final = 200
"""Worker processes named in one answer, those that beat last."""


async def list_workers(connection: Connection) -> list[Worker]:
    """Return the worker processes that are known, living or dead, the newest beat first."""
    found = await connection.call("ZREVRANGE", keys.WORKERS, 0, _MAX_WORKERS - 1, "WITHSCORES")
    beats = [(WorkerId(name.decode()), int(score)) for name, score in found]
    deaf = await deafness.list_deaf(connection, [worker_id for worker_id, _ in beats])
    counts = await asyncio.gather(
        *(connection.call("SCARD", keys.runs(worker_id)) for worker_id, _ in beats)
    )
    return [
        Worker(worker_id, beat_ms, int(count), worker_id in deaf)
        for (worker_id, beat_ms), count in zip(beats, counts, strict=True)
    ]


async def backlog(connection: Connection) -> Backlog:
    """Return what waits for somebody to look: how many of each, and the longest how long."""
    now = await lanes.now_ms(connection)
    overdue, due, dirty, replies = await asyncio.gather(
        connection.call("ZCOUNT", keys.DUE, "-inf", f"({now}"),
        *(_waiting(connection, key, now) for key in (keys.DUE, keys.DIRTY, keys.REPLIES)),
    )
    return Backlog(
        lanes=due[0],
        overdue=int(overdue),
        oldest_overdue_seconds=due[1],
        rows_behind=dirty[0],
        oldest_behind_seconds=dirty[1],
        replies=replies[0],
        oldest_reply_seconds=replies[1],
    )


async def _waiting(connection: Connection, key: str, now_ms: int) -> tuple[int, int]:
    """Return how many stand in an index, and for how many seconds the first was to be seen."""
    count, first = await asyncio.gather(
        connection.call("ZCARD", key), connection.call("ZRANGE", key, 0, 0, "WITHSCORES")
    )
    since_ms = int(first[0][1]) if first else now_ms
    return int(count), max(0, (now_ms - since_ms) // 1000)


async def list_lanes(connection: Connection, *, limit: int) -> list[LaneRef]:
    """Return lanes with work of all houses, the longest overdue first."""
    found = await connection.call("ZRANGE", keys.DUE, 0, limit - 1)
    return [lanes.lane_ref(member) for member in found]


async def note_sweep(connection: Connection, name: str) -> None:
    """Remember that a sweep of the timetable has run to its end just now."""
    now = await lanes.now_ms(connection)
    await connection.call("HSET", keys.SWEEPS, name, now)


async def list_sweeps(connection: Connection) -> tuple[Swept, ...]:
    """Return when each sweep last ran to its end; those that never did are missing."""
    now = await lanes.now_ms(connection)
    found = await connection.call("HGETALL", keys.SWEEPS)
    times = sorted((name.decode(), int(ms)) for name, ms in found.items())
    return tuple(
        Swept(name=name, last_ms=ms, ago_seconds=max(0, (now - ms) // 1000))
        for name, ms in times
    )


async def read_server(connection: Connection) -> RedisSeen:
    """Return what Redis says of itself and of the settings that promises rest on.

    A Redis that keeps its configuration to itself, as hosted ones do, leaves those out.
    """
    info = _facts(await _allowed(connection, "INFO", "everything") or b"")
    return RedisSeen(
        answer="up",
        version=info.get("redis_version"),
        uptime_seconds=_number(info.get("uptime_in_seconds")),
        appendonly=_flag(info.get("aof_enabled"), "1"),
        appendfsync=await _configured(connection, "appendfsync"),
        aof_writes_succeed=_flag(info.get("aof_last_write_status"), "ok"),
        maxmemory_policy=info.get("maxmemory_policy"),
        maxmemory_bytes=_number(info.get("maxmemory")),
        used_memory_bytes=_number(info.get("used_memory")),
    )


async def _configured(connection: Connection, name: str) -> str | None:
    found: dict[bytes, bytes] | None = await _allowed(connection, "CONFIG", "GET", name)
    value = (found or {}).get(name.encode())
    return value.decode() if value is not None else None


async def _allowed(connection: Connection, *command: str) -> Any:
    """Return a command's answer; None if this Redis does not let us ask."""
    try:
        return await connection.call(*command)
    except ResponseError:
        return None


def _facts(text: Any) -> dict[str, str]:
    """Read INFO's lines `name:value`, whatever form RESP3 gives the text."""
    raw = text.decode() if isinstance(text, bytes) else str(text)
    pairs = (line.partition(":") for line in raw.splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _flag(text: str | None, yes: str) -> bool | None:
    return None if text is None else text == yes


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
