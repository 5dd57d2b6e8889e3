"""The Celery tasks, thin: parse, run on the loop, return counts for the log.

Arguments come from the broker, which is not trusted to be sane: what does not parse is dropped.
"""

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import msgspec
from celery import Task
from celery.exceptions import Reject

from dispatch import clock, log, task_names
from dispatch.errors import ArbeError, Unavailable
from dispatch.ids import AgentId, ThreadId
from dispatch.models.houses import WhenBusy
from dispatch.models.threads import ThreadStatus
from dispatch.operations import post_as_service
from dispatch.operations.post_entry import Draft
from dispatch.streams import fleet
from dispatch.streams.lanes import LaneRef
from workers import turn
from workers.celery_app import app, process, settings
from workers.sweeps import (
    Counts,
    archive,
    cancellations,
    chats,
    expire,
    prune,
    reconcile,
    redeliver,
    sandboxes,
    webhooks,
)

_log = log.get(__name__)
PRODUCER_PAUSE_SECONDS = 1.0
"""A producer's message is tried again this often while a server is away …"""
HOLD_SECONDS = settings.broker_visibility_seconds / 3
"""… and goes back to the queue after this long, before the broker would give it to another."""


class ProducerMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `dispatch.post_entry`, by position or by name."""

    thread: UUID
    text: str
    key: str | None = None
    mentions: tuple[str, ...] | None = None
    service: str = "service"
    token: str | None = None
    when_busy: WhenBusy | None = None
    if_status: tuple[ThreadStatus, ...] | None = None


@app.task(name=task_names.RUN_LANE)
def run_lane(*arguments: Any, **_: Any) -> None:
    """Run what waits in a lane (thread id, agent id). Safe to lose, repeat or forge."""
    try:
        thread_id, lane = (UUID(each) for each in arguments)
    except (ValueError, TypeError, AttributeError):
        _log.warning("hint.malformed")
        return
    ref = LaneRef(ThreadId(thread_id), AgentId(lane))
    try:
        process.run(turn.run_lane(process.record, process.heartbeats, ref))
    except ArbeError as error:
        _log.warning("hint.dropped", cause=str(error), thread_id=str(thread_id))


@app.task(name=task_names.HEAR)
def hear(*_: Any, **__: Any) -> None:
    """Do nothing: that it started is the sign (`workers.ear`)."""


# A producer's message is not a hint: it is acknowledged late, so that a killed worker does not
# lose it. Its key makes the repeat harmless. While a server is away it waits in its pool
# thread: Celery's retry would send a second message through a broker that may be away too, and
# drop the first if it cannot. No turn could start meanwhile, so no thread is missed.
@app.task(name=task_names.POST_ENTRY, bind=True, acks_late=True)
def post_entry(self: "Task[Any, Any]", *arguments: Any, **named: Any) -> None:
    """Post an entry for a service that knows only the broker; repeats make no second one.

    Args: thread: a full thread id. text. key: idempotency key; by default the message's own id.
        mentions, service, token, when_busy, if_status: see `post_as_service`.
    """
    thread_id = str(named.get("thread", *arguments[:1]))[:36]
    try:
        message = _service_entry(arguments, named, key=str(self.request.id))
        _post_when_possible(message)
    except (ArbeError, ValueError, TypeError) as error:
        _log.error("producer.refused", cause=log.scrub(str(error)), thread_id=thread_id)


def _service_entry(
    arguments: tuple[Any, ...], named: dict[str, Any], *, key: str
) -> post_as_service.ServiceEntry:
    fields = ProducerMessage.__struct_fields__
    given = dict(zip(fields, arguments, strict=False)) | named
    message = msgspec.convert(given, ProducerMessage)
    return post_as_service.ServiceEntry(
        thread_id=ThreadId(message.thread),
        draft=Draft(
            message.text,
            mentions=message.mentions or (),
            when_busy=message.when_busy,
            if_status=message.if_status or (),
        ),
        key=message.key or key,
        service=message.service,
        token=message.token,
    )


def _post_when_possible(message: post_as_service.ServiceEntry) -> None:
    deadline = clock.monotonic_seconds() + HOLD_SECONDS
    while clock.monotonic_seconds() < deadline:
        try:
            process.run(post_as_service.post_as_service(process.record, message))
        except Unavailable as error:
            fields = {"cause": str(error), "thread_id": str(message.thread_id)}
            _log.warning("producer.waits", **fields)
        else:
            return
        if process.is_draining_within(PRODUCER_PAUSE_SECONDS):
            break
    raise Reject(reason="a server is away", requeue=True)


@app.task(name=task_names.SWEEP_REDELIVER)
def sweep_redeliver() -> None:
    """Ring lost hints again and end what is over."""
    _sweep("redeliver", redeliver.sweep(process.record))


@app.task(name=task_names.SWEEP_RECONCILE)
def sweep_reconcile() -> None:
    """End the runs of worker processes that died."""
    _sweep("reconcile", reconcile.sweep(process.record))


@app.task(name=task_names.SWEEP_CANCEL)
def sweep_cancel() -> None:
    """Go on with cancels that reach many dispatches."""
    _sweep("cancel", cancellations.sweep(process.record))


@app.task(name=task_names.SWEEP_PRUNE)
def sweep_prune() -> None:
    """Repair rows that lag and finish deletions."""
    _sweep("prune", prune.sweep(process.record))


@app.task(name=task_names.SWEEP_ARCHIVE)
def sweep_archive() -> None:
    """Move old entries out of Redis, and clear up in the archive."""
    _sweep("archive", archive.sweep(process.record))


@app.task(name=task_names.SWEEP_SANDBOXES)
def sweep_sandboxes() -> None:
    """Release sandboxes that nobody uses."""
    _sweep("sandboxes", sandboxes.sweep(process.record))


@app.task(name=task_names.SWEEP_CHATS)
def sweep_chats() -> None:
    """Remove closed chats whose time is over."""
    _sweep("chats", chats.sweep(process.record))


@app.task(name=task_names.SWEEP_WEBHOOKS)
def sweep_webhooks() -> None:
    """Tell those who subscribed to tasks what happened to them."""
    _sweep("webhooks", webhooks.sweep(process.record))


@app.task(name=task_names.SWEEP_EXPIRE)
def sweep_expire() -> None:
    """Remove threads that have expired."""
    _sweep("expire", expire.sweep(process.record))


def _sweep(name: str, sweep: Awaitable[Counts]) -> None:
    try:
        counts = process.run(_noted(name, sweep))
    except Unavailable as error:
        _log.warning("sweep.failed", sweep=name, cause=str(error))
        return
    if any(counts.values()):
        _log.info("sweep.finished", sweep=name, **counts)


async def _noted(name: str, sweep: Awaitable[Counts]) -> Counts:
    """Await a sweep and remember that it ran, for whoever asks whether a beat is alive."""
    counts = await sweep
    await fleet.note_sweep(process.record.connection, name)
    return counts
