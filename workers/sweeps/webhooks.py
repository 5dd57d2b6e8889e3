"""Tell those who subscribed to tasks what happened to them, event by event, in order.

Promise: at least once. The cursor moves after the receiver's 2xx, so whoever dies in between
delivers that event again, under the same `X-ARC-Delivery`. Events of one subscription never
overtake each other; a delivery that fails holds up that subscription only.
"""

import asyncio
from typing import Final

from dispatch import log
from dispatch.errors import ArbeError, Gone, NotFound
from dispatch.ids import BEGINNING, EntryId
from dispatch.models import webhooks as rules
from dispatch.models.arc_tasks import Event, Story
from dispatch.models.webhooks import Subscription
from dispatch.operations import arc_subscriptions, arc_tasks
from dispatch.operations.record import Record
from dispatch.stores.postgres import arc_subscriptions as stored
from dispatch.stores.postgres import engine
from dispatch.stores.postgres.arc_subscriptions import Owed
from workers import webhooks
from workers.sweeps import Counts
from workers.webhooks import Delivery, Sent

_log = log.get(__name__)
_AT_ONCE: Final = 20
"""Subscriptions worked at side by side."""
_EVENTS_EACH: Final = 50
"""Events of one subscription in one pass; it goes on in the next."""
_HOLD_MARGIN_SECONDS: Final = 20.0
"""A hold lasts one delivery and this: for the reading and writing around it."""


async def sweep(record: Record) -> Counts:
    """Work at every subscription that is due; one that fails stops no other."""
    counts = Counts()
    limit = min(record.settings.sweep_batch, _AT_ONCE)
    while True:
        async with engine.as_worker(record.projector) as connection:
            due = await stored.hold_due(
                connection, limit=limit, hold_seconds=_hold_seconds(record)
            )
        for each in await asyncio.gather(*(_work(record, owed) for owed in due)):
            counts.update(each)
        if len(due) < limit:
            return counts


async def _work(record: Record, owed: Owed) -> Counts:
    try:
        return await _deliver_all(record, owed)
    except ArbeError as error:
        fields = {"subscription_id": str(owed.subscription.id), "cause": error.code}
        _log.warning("webhook.not_worked_at", **fields)
    except Exception:  # noqa: BLE001 - one subscription stops no other
        _log.exception("webhook.failed", subscription_id=str(owed.subscription.id))
    return Counts(["failed"])


async def _deliver_all(record: Record, owed: Owed) -> Counts:
    """Deliver what came after the cursor, as far as it goes."""
    counts, held = Counts(), owed.subscription
    events, end, is_over = await _read(record, owed)
    for event in events[:_EVENTS_EACH]:
        sent = await _deliver(record, owed, event)
        if sent.failure is not None:
            counts.update([await _note_failure(record, held, event, sent)])
            return counts
        counts.update(["delivered"])
        moved = await _move(record, held, event.entry_id, _hold_seconds(record))
        if moved is None:
            return counts
        held = moved
    if len(events) > _EVENTS_EACH:
        await _move(record, held, held.cursor, 0)
    elif is_over:
        await _move(record, held, end, 0, ended_because="the task has ended")
    else:
        await _move(record, held, end, record.settings.webhook_poll_seconds)
    return counts


async def _read(record: Record, owed: Owed) -> tuple[list[Event], EntryId, bool]:
    """Return the events to tell, where the stream ends, and whether the task has ended."""
    after = owed.subscription.cursor
    try:
        if after and not await arc_tasks.read(record, owed.task.id, after):
            return [], after, False
        story, end, events = Story(owed.task), after, list[Event]()
        place = BEGINNING
        while page := await arc_tasks.read(record, owed.task.id, place):
            events += story.hear_all(page)
            end = place = page[-1].id
    except (NotFound, Gone):
        return [], after, True
    wanted = [each for each in events if each.entry_id > after]
    return [each for each in wanted if owed.subscription.wants(each)], end, story.is_over


async def _deliver(record: Record, owed: Owed, event: Event) -> Sent:
    body = rules.body(event, owed.task, owed.subscription)
    signed = rules.signature(owed.secret, body)
    delivery = Delivery(
        url=owed.subscription.callback_url,
        headers=rules.headers(event, owed.subscription, signed),
        body=body,
    )
    return await webhooks.send(
        delivery,
        allowed_hosts=arc_subscriptions.allowed_hosts(record),
        timeout_seconds=record.settings.webhook_timeout_seconds,
    )


async def _note_failure(record: Record, held: Subscription, event: Event, sent: Sent) -> str:
    settings = record.settings
    failure_count = held.failure_count + 1
    is_last = sent.is_final or failure_count >= settings.webhook_attempts
    _log.warning(
        "webhook.not_delivered",
        subscription_id=str(held.id),
        event_name=event.name,
        cause=sent.failure,
        failure_count=failure_count,
    )
    wait_seconds = rules.wait_seconds(
        failure_count,
        first=settings.webhook_backoff_seconds,
        longest=settings.webhook_max_backoff_seconds,
    )
    async with engine.as_worker(record.projector) as connection:
        await stored.update(
            connection,
            held=held,
            cursor=held.cursor,
            failure_count=failure_count,
            due_in_seconds=wait_seconds,
            ended_because=sent.failure if is_last else None,
        )
    return "ended" if is_last else "retried"


async def _move(
    record: Record,
    held: Subscription,
    cursor: EntryId,
    due_in_seconds: float,
    *,
    ended_because: str | None = None,
) -> Subscription | None:
    async with engine.as_worker(record.projector) as connection:
        return await stored.update(
            connection,
            held=held,
            cursor=cursor,
            failure_count=0,
            due_in_seconds=due_in_seconds,
            ended_because=ended_because,
        )


def _hold_seconds(record: Record) -> float:
    return record.settings.webhook_timeout_seconds + _HOLD_MARGIN_SECONDS
