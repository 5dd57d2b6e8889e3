"""Our ready-made hints held against Celery's own messages, on a real Redis."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from celery import Celery
from celery.worker.request import Request
from kombu import Connection, Message
from pydantic import SecretStr

from dispatch import task_names, transport
from dispatch.config import Settings
from dispatch.ids import AgentId, ThreadId
from dispatch.transport import Hint

HINT = Hint(ThreadId(uuid4()), AgentId(uuid4()), task_names.TURNS_QUEUE)


@pytest.fixture
def broker(stream_url: str) -> Iterator[Settings]:
    url = urlunsplit(urlsplit(stream_url)._replace(path="/7"))
    yield Settings(broker_url=SecretStr(url))
    with Connection(url) as connection:
        client: Any = connection.default_channel
        client.client.flushdb()


def test_a_hint_reads_like_celerys_own_message(broker: Settings) -> None:
    with Celery("any", set_as_current=False) as app:
        app.conf.update(transport.celery_settings(broker))
        arguments = (str(HINT.thread_id), str(HINT.lane))
        app.send_task(task_names.RUN_LANE, args=arguments, queue=HINT.queue, ignore_result=True)
        theirs = received(broker, app)
        push(broker, count=1)
        ours = received(broker, app)
    assert ours == theirs
    assert ours["task"] == task_names.RUN_LANE
    assert ours["args"] == [str(HINT.thread_id), str(HINT.lane)]


def test_every_hint_has_an_id_and_a_delivery_of_its_own(broker: Settings) -> None:
    push(broker, count=3)
    with Connection(broker.broker) as connection:
        queue = connection.SimpleQueue(HINT.queue)
        found: list[Message] = [queue.get(timeout=5) for _ in range(3)]
        queue.close()
    assert len({message.headers["id"] for message in found}) == 3
    assert len({message.delivery_tag for message in found}) == 3


def push(settings: Settings, *, count: int) -> None:
    with Connection(settings.broker) as connection:
        client: Any = connection.default_channel
        messages = [transport.redis_message(HINT) for _ in range(count)]
        client.client.lpush(HINT.queue, *messages)


def received(settings: Settings, app: Celery) -> dict[str, Any]:
    """Take one message off the queue as a worker reads it, without what is random in it."""
    with Connection(settings.broker) as connection:
        queue = connection.SimpleQueue(task_names.TURNS_QUEUE)
        message = queue.get(timeout=5)
        message.ack()
        queue.close()
    request = Request(message, app=app, task=app.Task())
    arguments, named, embedded = message.payload
    return {
        "task": request.name,
        "args": request.args,
        "kwargs": request.kwargs,
        "payload": (arguments, named, embedded),
        "has_root": request.root_id == request.id == request.correlation_id,
        "parent": request.parent_id,
        "delivery": request.delivery_info,
        "delivery_mode": message.properties["delivery_mode"],
        "content": (message.content_type, message.content_encoding),
        "expires": request.expires,
        "eta": request.eta,
        "retries": request.request_dict.get("retries"),
        "timelimit": request.request_dict.get("timelimit"),
        "utc": request.utc,
        "ignores_result": request.ignore_result,
    }
