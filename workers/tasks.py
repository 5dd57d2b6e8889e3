"""The Celery tasks, thin: parse, run on the loop, return counts for the log.

Arguments come from the broker, which is not trusted to be sane: what does not parse is dropped.
"""

from typing import Any
from uuid import UUID

import msgspec
from celery import Task

from dispatch import log, task_names
from dispatch.errors import ArbeError, Unavailable
from dispatch.ids import AgentId, ThreadId
from dispatch.operations import post_as_service
from dispatch.operations.post_entry import Draft
from dispatch.streams.lanes import LaneRef
from workers import turn
from workers.celery_app import app, process
from workers.sweeps import prune, reconcile, redeliver

_log = log.get(__name__)
PRODUCER_RETRY_SECONDS = 5
"""A producer's message is tried again while a server is away; longer each time."""


@app.task(name=task_names.RUN_LANE)
def run_lane(thread_id: str, lane: str) -> None:
    """Look at a lane and run what waits in it. Safe to lose, repeat or forge."""
    try:
        ref = LaneRef(ThreadId(UUID(thread_id)), AgentId(UUID(lane)))
    except (ValueError, TypeError, AttributeError):
        _log.warning("hint.malformed")
        return
    try:
        process.run(turn.run_lane(process.record, process.heartbeats, ref))
    except Unavailable as error:
        _log.warning("hint.dropped", cause=str(error), thread_id=thread_id)


# A producer's message is not a hint: it is acknowledged late, so that a killed worker does not
# lose it. It is short, and its key makes the repeat harmless.
@app.task(name=task_names.POST_ENTRY, bind=True, acks_late=True, max_retries=None)
def post_entry(
    self: "Task[Any, Any]",
    thread: str,
    text: str,
    key: str | None = None,
    mentions: list[str] | None = None,
    service: str = "service",
    token: str | None = None,
) -> None:
    """Post an entry for a service that knows only the broker; repeats make no second one.

    Args: key: idempotency key; by default the message's own id. thread: a full thread id.
    """
    try:
        message = post_as_service.ServiceEntry(
            thread_id=ThreadId(UUID(thread)),
            draft=msgspec.convert(
                {"text": text, "mentions": mentions or []}, Draft, strict=True
            ),
            key=key or str(self.request.id),
            service=service,
            token=token,
        )
        process.run(post_as_service.post_as_service(process.record, message))
    except Unavailable as error:
        _log.warning("producer.retried", cause=str(error), thread_id=thread)
        raise self.retry(countdown=PRODUCER_RETRY_SECONDS) from error
    except (ArbeError, ValueError, TypeError, AttributeError, msgspec.ValidationError) as error:
        _log.error("producer.refused", cause=log.scrub(str(error)), thread_id=str(thread))


@app.task(name=task_names.SWEEP_REDELIVER)
def sweep_redeliver() -> None:
    """Ring lost hints again and end what is over."""
    _sweep("redeliver", redeliver.sweep(process.record))


@app.task(name=task_names.SWEEP_RECONCILE)
def sweep_reconcile() -> None:
    """End the runs of worker processes that died."""
    _sweep("reconcile", reconcile.sweep(process.record))


@app.task(name=task_names.SWEEP_PRUNE)
def sweep_prune() -> None:
    """Repair rows that lag and finish deletions."""
    _sweep("prune", prune.sweep(process.record))


def _sweep(name: str, sweep: Any) -> None:
    try:
        counts = process.run(sweep)
    except Unavailable as error:
        _log.warning("sweep.failed", sweep=name, cause=str(error))
        return
    if any(counts.values()):
        _log.info("sweep.finished", sweep=name, **counts)
