"""What neighbours do to the broker, in good faith or bad: everything goes straight to it."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from celery import Celery
from kombu import Connection, Queue

from dispatch import task_names, transport
from dispatch.config import Settings
from tests.chaos.books import Post
from tests.system import brokers

_REPEATS: Final = 5
_JUNK: Final = (b"", b"{", b"null", b"[1,2]", b"\x80\x04]q\x00.", b'{"body":"!","headers":{}}')
_NONSENSE: Final[tuple[list[object], ...]] = (
    [],
    ["not-a-thread", "not-a-lane"],
    [None, None],
    [{"thread": "x"}, ["y"]],
    ["x" * 10_000, "y" * 10_000],
    [str(uuid4()), str(uuid4())],
)
Lanes = Sequence[tuple[str, str]]
"""Threads' and agents' ids that exist."""


@dataclass
class Meddler:
    """One neighbour. Blocking inside, so each act goes to an OS thread."""

    settings: Settings
    dice: random.Random

    def __post_init__(self) -> None:
        self._app = Celery("arbe-chaos", set_as_current=False)
        self._app.conf.update(transport.celery_settings(self.settings))

    async def produce(self, posts: Sequence[Post]) -> None:
        """Post as a service that knows only the broker, and says everything twice."""
        said = [[post.thread_id, post.text, post.key] for post in posts] * 2
        await asyncio.to_thread(
            self._send, said, task_names.POST_ENTRY, task_names.PRODUCERS_QUEUE
        )

    async def act(self, kind: str, lanes: Lanes) -> None:
        """Do what the plan says. Raises: whatever the broker's client raises."""
        acts = {
            "flush": self._flush,
            "duplicate": self._duplicate,
            "reorder": self._reorder,
            "forge": self._forge,
        }
        await asyncio.to_thread(acts[kind], lanes)

    def _flush(self, _lanes: Lanes) -> None:
        for name in (task_names.TURNS_QUEUE, task_names.SWEEPS_QUEUE):
            brokers.purge(self.settings, name)

    def _duplicate(self, lanes: Lanes) -> None:
        """Ring for lanes that exist, several times each, whatever they do."""
        chosen = [lane for lane in lanes for _ in range(_REPEATS)]
        self.dice.shuffle(chosen)
        self._send([list(lane) for lane in chosen])

    def _reorder(self, lanes: Lanes) -> None:
        """Take away what waits and put it back in another order."""
        with Connection(self.settings.broker) as connection:
            queue = self._queue()(connection.default_channel)
            taken = []
            while len(taken) < 100 and (message := queue.get(no_ack=True)) is not None:
                taken.append(message)
        arguments = [message.payload[0] for message in taken]
        self.dice.shuffle(arguments)
        self._send([*arguments, *(list(lane) for lane in lanes)])

    def _forge(self, lanes: Lanes) -> None:
        """Say what nobody ever meant: junk, nonsense, lanes of other agents."""
        strangers = [[thread, str(uuid4())] for thread, _ in lanes]
        self._send([*_NONSENSE, *strangers])
        with Connection(self.settings.broker) as connection:
            channel = connection.default_channel
            if transport.uses_redis(self.settings):
                channel.client.lpush(task_names.TURNS_QUEUE, *_JUNK)
                return
            producer = connection.Producer(channel)
            for junk in _JUNK:
                producer.publish(
                    junk,
                    exchange=task_names.TURNS_QUEUE,
                    routing_key=task_names.TURNS_QUEUE,
                    content_type="application/json",
                    content_encoding="utf-8",
                    retry=False,
                )
            message = json.dumps([[], {}, {}]).encode()
            producer.publish(
                message,
                exchange=task_names.TURNS_QUEUE,
                routing_key=task_names.TURNS_QUEUE,
                headers={"task": "dispatch.no_such_task", "id": str(uuid4())},
                content_type="application/json",
                content_encoding="utf-8",
                retry=False,
            )

    def _send(
        self,
        all_arguments: Sequence[Sequence[object]],
        task: str = task_names.RUN_LANE,
        queue: str = task_names.TURNS_QUEUE,
    ) -> None:
        with self._app.connection_for_write() as connection:
            for arguments in all_arguments:
                self._app.send_task(
                    task,
                    args=arguments,
                    queue=self._queue(queue),
                    connection=connection,
                    retry=False,
                    ignore_result=True,
                )

    def _queue(self, name: str = task_names.TURNS_QUEUE) -> Queue:
        return transport.queue(name, is_redis=transport.uses_redis(self.settings))
