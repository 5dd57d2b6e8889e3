"""How the whole stands: servers, workers, backlog, sweeps, and one house's threads. Pure.

`servers` and `fleet` hold for all houses and are numbers and ids only; threads are those of the
house that asks. Not guaranteed: more than the parts that answered; what is unknown is None.
"""

from typing import Literal

import msgspec

from dispatch import clock
from dispatch.ids import DispatchId, ThreadId, WorkerId, milliseconds_of
from dispatch.models.diagnosis import (
    Diagnosis,
    Finding,
    LaneVerdict,
    Sight,
    Stage,
)
from dispatch.models.diagnosis.servers import Servers
from dispatch.models.state import ThreadState
from dispatch.models.threads import Thread, ThreadStatus

Word = Literal["healthy", "degraded", "stalled", "failed"]


class WorkerSeen(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A worker process, whosever threads it runs."""

    worker_id: WorkerId
    is_alive: bool
    beat_ms: int
    silent_seconds: int
    runs: int
    """Lanes it claimed; some may have gone on without it."""
    is_deaf: bool = False
    """It hears nothing from the broker and takes no new work."""


class Backlog(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What is left to do, of all houses: lanes with work, rows that lag, answers to pass on."""

    lanes: int
    overdue: int
    oldest_overdue_seconds: int = 0
    rows_behind: int = 0
    """Threads whose row has not been told how they stand."""
    oldest_behind_seconds: int = 0
    replies: int = 0
    """Answers that may name agents nobody has woken yet."""
    oldest_reply_seconds: int = 0
    """For how long a sweep should have looked at one."""


class Swept(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """When a sweep of the timetable last ran to its end."""

    name: str
    last_ms: int
    ago_seconds: int


class ListedThread(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A thread of the house that needs a look, by the worst of its lanes."""

    thread_id: ThreadId
    name: str | None = None
    status: ThreadStatus
    stage: Stage
    agent_id: str | None = None
    dispatch_id: DispatchId | None = None
    cause: str
    next_step: str
    since_ms: int
    """When its status last changed."""


class HouseThreads(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The house's threads with work, or that failed lately."""

    stages: dict[Stage, int]
    looked_at: int
    is_complete: bool
    """False: there are more than were looked at; the longest overdue ones were."""
    listed: tuple[ListedThread, ...]
    """Those that are stuck or failed, the worst first, then the oldest."""
    next_cursor: str | None = None


class FleetDiagnosis(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """How the whole stands, and what to do first."""

    verdict: Word
    cause: str
    next_step: str
    findings: tuple[Finding, ...]
    """The gravest first."""
    threads: HouseThreads | None
    workers: tuple[WorkerSeen, ...] | None
    backlog: Backlog | None
    sweeps: tuple[Swept, ...] | None
    servers: Servers


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that could be read; None: its server is away."""

    servers: Servers
    sight: Sight | None = None
    backlog: Backlog | None = None
    sweeps: tuple[Swept, ...] | None = None
    threads: HouseThreads | None = None


def list_thread(row: Thread, state: ThreadState, diagnosis: Diagnosis) -> ListedThread:
    """Put a thread's worst verdict into one line."""
    # Where Redis has forgotten, that is worse than whatever the lanes still say.
    is_lost = diagnosis.stage == "stalled" and diagnosis.dispatch_id is None
    worst = diagnosis if is_lost or not diagnosis.lanes else diagnosis.lanes[0]
    mark = max(state.mark, row.stream_id)
    return ListedThread(
        thread_id=row.id,
        name=row.name,
        status=row.status,
        stage=worst.stage,
        agent_id=worst.agent_id if isinstance(worst, LaneVerdict) else None,
        dispatch_id=worst.dispatch_id,
        cause=worst.cause,
        next_step=worst.next_step,
        since_ms=milliseconds_of(mark) if mark else clock.milliseconds(row.updated_at),
    )
