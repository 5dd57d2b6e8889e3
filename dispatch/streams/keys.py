"""Every Redis key the system uses is made here, and nowhere else.

A thread's companions carry the stream's name as hash tag, so all keys of a thread share a slot.
The due index is one per Redis; it is passed to every script as a key, so that it may become one
per shard without touching a script.
"""

from functools import lru_cache
from typing import Final
from uuid import UUID

from dispatch.ids import AgentId, ThreadId, WorkerId

_REMEMBERED: Final = 4096
"""Names of threads a process is busy with: making one costs as much as sending it."""

DUE: Final = "arbe:due"
"""zset: `<thread>|<lane>` → Unix ms when somebody must look. Exactly the lanes with work."""
DIRTY: Final = "arbe:dirty"
"""zset: thread → Unix ms since when its row may not know how the thread stands."""
REPLIES: Final = "arbe:replies"
"""zset: `<thread>|<dispatch>` → Unix ms: whose answer may name agents nobody has woken yet."""
WATCH: Final = "arbe:workers:watch"
"""`<start of Redis> <Unix ms>`: since when workers can be heard."""
WORKERS: Final = "arbe:workers"
"""zset: worker id → Unix ms of its last beat."""
ARCHIVE: Final = "arbe:archive"
"""hash: `after`, the thread where the archive's sweep goes on; `shard`: its passes so far."""
SWEEPS: Final = "arbe:sweeps"
"""hash: a sweep of the timetable → Unix ms when it last ran to its end."""


@lru_cache(_REMEMBERED)
def stream(thread_id: ThreadId) -> str:
    """Return the stream's key, which is also the channel its followers hear."""
    return f"arbe-thread-{thread_id}"


def thread_of(stream_key: str) -> ThreadId:
    """Return the thread whose stream has this key."""
    return ThreadId(UUID(stream_key.removeprefix("arbe-thread-")))


@lru_cache(_REMEMBERED)
def state(thread_id: ThreadId) -> str:
    """Return the key of the state hash: the fold of the stream, or a tombstone."""
    return f"{{arbe-thread-{thread_id}}}:state"


def idempotency(thread_id: ThreadId) -> str:
    """Return the key of the hash: digest of an idempotency key → what was answered."""
    return f"{{arbe-thread-{thread_id}}}:keys"


def idempotency_ages(thread_id: ThreadId) -> str:
    """Return the key of the zset that lets old idempotency keys go."""
    return f"{{arbe-thread-{thread_id}}}:keys:ages"


def restoring(thread_id: ThreadId) -> str:
    """Return the key of the stream that a restore makes beside the thread's own."""
    return f"{{arbe-thread-{thread_id}}}:restoring"


def runs(worker_id: WorkerId) -> str:
    """Return the key of the set of lanes a worker process claimed."""
    return f"arbe:runs:{worker_id}"


def deaf(worker_id: WorkerId) -> str:
    """Return the key that is there, for a while, when a worker process says it is deaf."""
    return f"arbe:deaf:{worker_id}"


def due_member(thread_id: ThreadId, lane: AgentId) -> str:
    """Return a lane's name in the due index and in a worker's set of lanes."""
    return f"{thread_id}|{lane}"
