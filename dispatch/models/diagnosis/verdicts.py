"""The verdict over the whole, and the findings it rests on. Pure.

Not guaranteed: that one finding is the cause of another; each is true by itself.
"""

from collections.abc import Iterator
from typing import Final

from dispatch.models.diagnosis import Finding, Gravity, Sight, servers
from dispatch.models.diagnosis.fleet import (
    Backlog,
    FleetDiagnosis,
    HouseThreads,
    Seen,
    Swept,
    Word,
    WorkerSeen,
)
from dispatch.task_names import SWEEPS_QUEUE

_WORST_FIRST: Final[tuple[Gravity, ...]] = ("failed", "stalled", "degraded")
_LATE_SECONDS: Final = 30
"""A lane overdue this long was missed by beat's sweeps (2 s) and the workers' keepers (5 s);
a dead worker this long by both; a beat that ran no sweep this long is dead."""

_MISSED_SECONDS: Final = 90
"""Nine times the longest period of the timetable (10 s)."""
_FORGOTTEN_SECONDS: Final = 24 * 3600
"""A sweep that has not run this long has left the timetable."""


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
    if seen.backlog is not None:
        yield from _about_backlog(seen.backlog)
    if seen.threads is not None:
        yield from _about_threads(seen.threads)


def _about_backlog(backlog: Backlog) -> Iterator[Finding]:
    if backlog.oldest_overdue_seconds > _LATE_SECONDS:
        yield Finding(
            code="sweeps_late",
            gravity="stalled",
            cause=f"{backlog.overdue} lanes are overdue, the oldest by "
            f"{backlog.oldest_overdue_seconds} s: nobody looks at the due index.",
            next_step="Start a worker and a beat, or read their logs for `sweep.failed` and "
            "`keeper.failed`.",
        )
    if backlog.oldest_behind_seconds > _LATE_SECONDS:
        yield Finding(
            code="rows_late",
            gravity="degraded",
            cause=f"{backlog.rows_behind} rows do not know how their threads stand, one for "
            f"{backlog.oldest_behind_seconds} s: lists show old statuses.",
            next_step="Start a worker, or read its log for `keeper.failed`; "
            "`arbe thread prune` repairs those of the house.",
        )
    if backlog.oldest_reply_seconds > _LATE_SECONDS:
        yield Finding(
            code="replies_late",
            gravity="stalled",
            cause=f"{backlog.replies} answers may name agents that nobody has woken, one for "
            f"{backlog.oldest_reply_seconds} s: nobody passes them on.",
            next_step="Start a worker, or read its log for `keeper.failed` and `reply.lags`.",
        )


def _about_threads(threads: HouseThreads) -> Iterator[Finding]:
    stuck, mute = threads.stages.get("stalled", 0), threads.stages.get("no_progress", 0)
    if stuck:
        yield Finding(
            code="threads_stalled",
            gravity="stalled",
            cause=f"{stuck} of the house's threads stand still.",
            next_step="Read what the listed ones say; `arbe thread prune` repairs them all.",
        )
    if mute:
        yield Finding(
            code="threads_mute",
            gravity="degraded",
            cause=f"In {mute} of the house's threads the agent has long said nothing.",
            next_step="Read what the listed ones say; each is stopped at its progress limit.",
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
        yield from _about_sweeps(seen.sweeps)
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
        cause=f"No sweep has run {since}. Every ARBE_KEEPER_SECONDS workers themselves look at "
        "due lanes and for dead workers; other repairs wait.",
        next_step="Start a beat: celery -A workers.celery_app beat.",
    )


def _about_sweeps(sweeps: tuple[Swept, ...]) -> Iterator[Finding]:
    """Yield which sweeps do not come to their end though others do."""
    for sweep in sweeps:
        if _MISSED_SECONDS < sweep.ago_seconds < _FORGOTTEN_SECONDS:
            yield Finding(
                code="sweep_missing",
                gravity="degraded",
                cause=f"The sweep `{sweep.name}` has not come to its end for "
                f"{sweep.ago_seconds} s, others have.",
                next_step="Read the workers' log for `sweep.failed`; "
                "see that beat's timetable has it.",
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
