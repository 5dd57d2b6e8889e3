"""Be told of a task: a subscription. The sweep `dispatch.sweep.webhooks` sends its webhooks."""

import secrets
import uuid
from typing import Any

from dispatch.errors import Invalid
from dispatch.models import webhooks
from dispatch.models.arc_tasks import EventName
from dispatch.models.houses import Caller
from dispatch.operations import arc_tasks
from dispatch.operations.record import Record
from dispatch.stores.postgres import arc_subscriptions as stored
from dispatch.stores.postgres import engine


async def subscribe(
    record: Record,
    who: Caller,
    *,
    task_id: str,
    callback_url: str,
    events: list[EventName] | None = None,
) -> dict[str, Any]:
    """Let a URL be called for each of these events, what has happened already first.

    Returns: the subscription, and once and never again its `secret`.
    Raises: ArcError (task not found), Invalid (URL), Conflict (`too_many_subscriptions`).
    """
    task = await arc_tasks.get(record, who, task_id)
    webhooks.target(callback_url, allowed_hosts=allowed_hosts(record))
    if events is not None and not events:
        raise Invalid("`events` is empty.", next_step="Leave it out for the task's end.")
    secret = f"whsec_{secrets.token_urlsafe(32)}"
    async with engine.as_member(record.members, who.member_id) as connection:
        made = await stored.insert(
            connection,
            subscription_id=uuid.uuid4(),
            task=task,
            callback_url=callback_url,
            events=list(dict.fromkeys(events or webhooks.DEFAULT_EVENTS)),
            secret=secret,
            member_id=who.member_id,
            limit=record.settings.max_task_subscriptions,
        )
    return webhooks.shown(made) | {"secret": secret}


def allowed_hosts(record: Record) -> frozenset[str]:
    """Return the hosts that may be private or speak plain http."""
    names = record.settings.webhook_allowed_hosts.split(",")
    return frozenset(name.strip().lower() for name in names if name.strip())
