"""A Redis that forgets a thread, wholly or back to a copy made earlier."""

from typing import Any, Final

import msgspec
from redis import Redis

from dispatch.ids import ThreadId
from dispatch.streams import keys

_INDEXES: Final = (keys.DUE, keys.DIRTY)


class Backup(msgspec.Struct, frozen=True):
    """All that Redis held of one thread at some time."""

    keys: dict[str, bytes] = {}
    indexes: dict[str, dict[str, float]] = {}


NOTHING: Final = Backup()


def back_up(redis: "Redis", thread_id: ThreadId) -> Backup:
    """Copy all that Redis holds of a thread now."""
    names = [name.decode() for name in redis.keys(f"*{thread_id}*")]
    return Backup(
        {name: redis.dump(name) for name in names},
        {index: _members(redis, index, thread_id) for index in _INDEXES},
    )


def load(redis: "Redis", thread_id: ThreadId, backup: Backup) -> None:
    """Let Redis hold of a thread what it held once, and no more."""
    held = back_up(redis, thread_id)
    for name in held.keys:
        redis.delete(name)
    for index, members in held.indexes.items():
        if members:
            redis.zrem(index, *members)
    for name, dumped in backup.keys.items():
        redis.restore(name, 0, dumped, replace=True)
    for index, members in backup.indexes.items():
        if members:
            redis.zadd(index, members)


def _members(redis: "Redis", index: str, thread_id: ThreadId) -> dict[str, float]:
    found: list[Any] = redis.zrange(index, 0, -1, withscores=True)
    return {
        member.decode(): score
        for member, score in found
        if member.decode().startswith(str(thread_id))
    }
