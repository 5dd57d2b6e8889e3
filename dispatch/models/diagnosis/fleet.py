"""How the whole stands: servers, workers, backlog, sweeps, and one house's threads. Pure.

`servers` and `fleet` hold for all houses and are numbers and ids only; threads are those of the
house that asks. Not guaranteed: more than the parts that answered; what is unknown is None.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from dispatch import clock
from dispatch.ids import DispatchId, ThreadId, WorkerId, milliseconds_of
from dispatch.models.diagnosis import (
    Diagnosis,
    Finding,
    Gravity,
    LaneVerdict,
    Sight,
    Stage,
    servers,
)
from dispatch.models.diagnosis.servers import Servers
from dispatch.models.state import ThreadState
from dispatch.models.threads import Thread, ThreadStatus
from dispatch.task_names import SWEEPS_QUEUE

Word = Literal["healthy", "degraded", "stalled", "failed"]
_WORST_FIRST: Final[tuple[Gravity, ...]] = ("failed", "stalled", "degraded")
_LATE_SECONDS: Final = 30
"""A lane overdue this long was missed by beat's sweeps (2 s) and the workers' keepers (5 s);
a dead worker this long by both; a beat that ran no sweep this long is dead."""


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
    """The due index: lanes with unfinished work, of all houses."""

    lanes: int
    overdue: int
    oldest_overdue_seconds: int = 0


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


def judge(seen: Seen) -> FleetDiagnosis:
    """Return the verdict over all that was seen; the gravest finding speaks for it."""
    found = sorted(_findings(seen), key=lambda finding: _WORST_FIRST.index(finding.gravity))
    word: Word = found[0].gravity if found else "healthy"
    return FleetDiagnosis(
        verdict=word,
        cause=found[0].cause if found else "Servers, workers and sweeps are well.",
        next_step=found[0].next_step if found else "Nothing to do.",
        findings=tuple(found),
        threads=seen.threads,
        workers=_workers(seen.sight) if seen.sight is not None else None,
        backlog=seen.backlog,
        sweeps=seen.sweeps,
        servers=seen.servers,
    )


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


def _workers(sight: Sight) -> tuple[WorkerSeen, ...]:
    return tuple(
        WorkerSeen(
            worker_id=worker.id,
            is_alive=not sight.is_dead(worker),
            beat_ms=worker.beat_ms,
            silent_seconds=sight.seconds_since(worker.beat_ms),
            runs=worker.runs,
            is_deaf=worker.is_deaf,
        )
        for worker in sight.workers
    )


def _findings(seen: Seen) -> Iterator[Finding]:
    yield from servers.findings(seen.servers)
    if seen.sight is not None:
        yield from _about_workers(seen.sight)
        yield from _about_beat(seen, seen.sight)
    yield from _about_queues(seen)
    if seen.backlog is not None and seen.backlog.oldest_overdue_seconds > _LATE_SECONDS:
        yield Finding(
            code="sweeps_late",
            gravity="stalled",
            cause=f"{seen.backlog.overdue} lanes are overdue, the oldest by "
            f"{seen.backlog.oldest_overdue_seconds} s: nobody looks at the due index.",
            next_step="Start a worker and a beat, or read their logs for `sweep.failed` and "
            "`keeper.failed`.",
        )
    stuck = seen.threads.stages.get("stalled", 0) if seen.threads is not None else 0
    if stuck:
        yield Finding(
            code="threads_stalled",
            gravity="stalled",
            cause=f"{stuck} of the house's threads stand still.",
            next_step="Read what the listed ones say; `arbe thread prune` repairs them all.",
        )


def _about_workers(sight: Sight) -> Iterator[Finding]:
    if not sight.living:
        yield Finding(
            code="no_worker",
            gravity="failed",
            cause="No worker is alive: what is accepted is not started.",
            next_step="Start a worker (`arbe up`), or read the workers' log if they should be "
            "running.",
        )
    elif len(sight.taking) < len(sight.living):
        deaf_count = len(sight.living) - len(sight.taking)
        yield Finding(
            code="workers_deaf",
            gravity="degraded" if sight.taking else "failed",
            cause=f"{deaf_count} of {len(sight.living)} workers hear nothing from "
            "the broker; they take no new work.",
            next_step="Their supervisor should start them again once they hold no run; if it "
            "does not, restart them and look at the broker.",
        )
    dead = [worker for worker in sight.workers if sight.is_dead(worker)]
    if not dead:
        return
    longest = max(sight.seconds_since(worker.beat_ms) for worker in dead)
    is_missed = longest > sight.patience.worker_dead_seconds + _LATE_SECONDS
    yield Finding(
        code="workers_dead",
        gravity="stalled" if is_missed else "degraded",
        cause=f"{len(dead)} workers ended without a word, one {longest} s ago; their runs "
        "have not been looked at yet.",
        next_step="The reconcile sweep does it within seconds; if it does not, start a worker "
        "and a beat.",
    )


def _about_beat(seen: Seen, sight: Sight) -> Iterator[Finding]:
    """Yield whether sweeps run; without workers or broker there is nobody to run them."""
    if seen.sweeps is None or not sight.living or seen.servers.broker.answer == "down":
        return
    newest = min((sweep.ago_seconds for sweep in seen.sweeps), default=None)
    if newest is not None and newest <= _LATE_SECONDS:
        return
    since = "ever" if newest is None else f"for {newest} s"
    if any(q.name == SWEEPS_QUEUE and q.messages for q in seen.servers.broker.queues):
        yield Finding(
            code="sweeps_unserved",
            gravity="stalled",
            cause=f"Workers beat but have run no sweep {since}, though sweeps wait at the "
            "broker.",
            next_step=f"See that a worker takes from `{SWEEPS_QUEUE}` (ARBE_QUEUES, or -Q of "
            "its command); one that should and does not is to be restarted.",
        )
        return
    yield Finding(
        code="no_beat",
        gravity="degraded",
        cause=f"No sweep has run {since}. Workers look at due lanes themselves every "
        "ARBE_KEEPER_SECONDS; dead workers' runs and rows that lag wait longer.",
        next_step="Start a beat: celery -A workers.celery_app beat.",
    )


def _about_queues(seen: Seen) -> Iterator[Finding]:
    for queue in seen.servers.broker.queues:
        if queue.messages and queue.consumers == 0:
            yield Finding(
                code="queue_unserved",
                gravity="stalled",
                cause=f"{queue.messages} messages wait in `{queue.name}` and nobody takes from "
                "it.",
                next_step="Start a worker for it (ARBE_QUEUES, or -Q of its command).",
            )
