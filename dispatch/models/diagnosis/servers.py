"""The three servers behind the record, and the settings of theirs that promises rest on. Pure.

Not guaranteed: that a server tells; what it keeps to itself is None and warned of nowhere.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from dispatch.models.diagnosis import Finding, Gravity

Answer = Literal["up", "down"]
_FULL: Final = 0.9
"""Of `maxmemory`: what comes after it is refused."""


class RedisSeen(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The Redis that holds the streams."""

    answer: Answer
    version: str | None = None
    uptime_seconds: int | None = None
    appendonly: bool | None = None
    appendfsync: str | None = None
    aof_writes_succeed: bool | None = None
    maxmemory_policy: str | None = None
    maxmemory_bytes: int | None = None
    used_memory_bytes: int | None = None


class PostgresSeen(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The Postgres that holds the rows."""

    answer: Answer
    version: str | None = None
    fsync: bool | None = None
    synchronous_commit: str | None = None
    is_read_only: bool | None = None


class QueueSeen(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A queue at the broker."""

    name: str
    messages: int | None
    """None: there is no such queue."""
    consumers: int | None = None
    """Worker processes that take from it; None: this broker cannot tell."""


class BrokerSeen(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The broker of the hints; queues of no other house are named."""

    answer: Answer
    kind: Literal["redis", "rabbitmq"]
    queues: tuple[QueueSeen, ...] = ()


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """All three."""

    redis: RedisSeen
    postgres: PostgresSeen
    broker: BrokerSeen


def findings(servers: Servers) -> Iterator[Finding]:
    """Yield which server is away, and which of their settings may lose what we promise."""
    yield from _redis(servers.redis)
    yield from _postgres(servers.postgres)
    if servers.broker.answer == "down":
        yield _finding(
            "broker_away",
            "failed",
            "The broker does not answer: what is accepted is not started.",
            "Bring the broker of BROKER_URL back; what waits starts by itself.",
        )


def _redis(redis: RedisSeen) -> Iterator[Finding]:
    if redis.answer == "down":
        yield _finding(
            "redis_away",
            "failed",
            "Redis does not answer: nothing can be posted, read or run.",
            "Bring the Redis of STREAM_URL back; runs give up by themselves, nothing is lost.",
        )
    if redis.aof_writes_succeed is False:
        yield _finding(
            "redis_cannot_write",
            "failed",
            "Redis could not write its append-only file and refuses writes.",
            "See Redis's log; usually its disk is full.",
        )
    if redis.appendonly is False:
        yield _finding(
            "redis_without_aof",
            "degraded",
            "Redis keeps no append-only file: its restart forgets conversations.",
            "Set `appendonly yes` in Redis's configuration.",
        )
    if redis.appendonly and redis.appendfsync == "no":
        yield _finding(
            "redis_without_fsync",
            "degraded",
            "Redis leaves it to the system when to write (`appendfsync no`): a power loss may "
            "forget half a minute of what was accepted.",
            "Set `appendfsync everysec`, or `always`.",
        )
    if redis.maxmemory_policy not in {None, "noeviction"}:
        yield _finding(
            "redis_evicts",
            "degraded",
            f"Redis may evict (`maxmemory-policy {redis.maxmemory_policy}`): streams would "
            "vanish without a word.",
            "Set `maxmemory-policy noeviction`.",
        )
    if _is_nearly_full(redis):
        yield _finding(
            "redis_nearly_full",
            "degraded",
            "Redis uses nine tenths of its `maxmemory`; beyond it writes are refused.",
            "Raise `maxmemory`, or delete threads that are no longer needed.",
        )


def _is_nearly_full(redis: RedisSeen) -> bool:
    if not redis.maxmemory_bytes or redis.used_memory_bytes is None:
        return False
    return redis.used_memory_bytes > _FULL * redis.maxmemory_bytes


def _postgres(postgres: PostgresSeen) -> Iterator[Finding]:
    if postgres.answer == "down":
        yield _finding(
            "postgres_away",
            "failed",
            "Postgres does not answer: nobody can be let in, and no run may start.",
            "Bring the Postgres of DATABASE_URL back; what waits starts by itself.",
        )
    if postgres.is_read_only:
        yield _finding(
            "postgres_read_only",
            "failed",
            "Postgres is read only: rows cannot be made or brought up to their streams.",
            "Point DATABASE_URL at the primary.",
        )
    if postgres.fsync is False:
        yield _finding(
            "postgres_without_fsync",
            "degraded",
            "Postgres runs with `fsync off`: a crash of its machine may ruin the database.",
            "Set `fsync on`.",
        )
    if postgres.synchronous_commit == "off":
        yield _finding(
            "postgres_commits_late",
            "degraded",
            "Postgres answers before it has written (`synchronous_commit off`): a crash of its "
            "machine may forget new threads and tokens.",
            "Set `synchronous_commit on`.",
        )


def _finding(code: str, gravity: Gravity, cause: str, next_step: str) -> Finding:
    return Finding(code=code, gravity=gravity, cause=cause, next_step=next_step)
