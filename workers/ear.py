"""Whether the broker's messages still reach this process: it talks to itself to know.

A worker can be connected and consume nothing, or wait for a broker that is away, and look
healthy meanwhile. So it sends itself a message through the broker, which must come back by the
very consumer and pool that hints take; any other task that starts here is as good a sign. A
process without a free slot is not deaf: it rightly takes nothing.

Not guaranteed: that hints arrive when echoes do; the due index holds what was lost.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from celery.worker import state as celery_state

from dispatch import clock, log, transport
from dispatch.config import Settings
from dispatch.errors import ArbeError
from dispatch.transport import Transport
from workers.heartbeat import Heartbeats

_log = log.get(__name__)
_MAX_TICK_SECONDS: Final = 1.0


class Silence:
    """How long nothing was heard though something could have been."""

    def __init__(self, *, max_step_seconds: float) -> None:
        """Args: max_step_seconds: a step longer than this was a pause of the whole process."""
        self.seconds = 0.0
        self._max_step_seconds = max_step_seconds

    def pass_time(self, seconds: float, *, heard: bool, is_saturated: bool) -> None:
        """Count a step of time; a sign, or a step without a free slot, begins anew."""
        if heard or is_saturated:
            self.seconds = 0.0
        else:
            self.seconds += min(seconds, self._max_step_seconds)


class Ear:
    """Judges the hearing of one process; lives on its loop, heard from its pool's threads."""

    def __init__(
        self,
        mouth: Transport,
        heartbeats: Heartbeats,
        *,
        settings: Settings,
        on_deaf: Callable[[], None],
    ) -> None:
        """Args: on_deaf: called while the process is deaf and holds no run; ends it."""
        self._mouth = mouth
        self._heartbeats = heartbeats
        self._settings = settings
        self._on_deaf = on_deaf
        self._tick_seconds = min(_MAX_TICK_SECONDS, settings.ear_seconds / 2)
        self._silence = Silence(max_step_seconds=2 * self._tick_seconds)
        self._heard = threading.Event()
        self._slots = 0
        self._connections = 0
        self._queue = ""
        self._speaking: asyncio.Task[None] | None = None
        self._spoke_at = -settings.ear_seconds
        self._cause = "it never reached the broker"
        self._is_deaf = False

    def new_queue(self, *, slots: int) -> Any:
        """Return the queue to hear by on a new connection to the broker.

        A name of its own each time: a RabbitMQ that has not noticed the end of the last
        connection still keeps that one's queue for it.
        """
        self._slots = slots
        self._connections += 1
        name = f"arbe.ear.{self._heartbeats.worker_id}.{self._connections}"
        self._queue = name
        return transport.own_queue(name, is_redis=transport.uses_redis(self._settings))

    def hear(self) -> None:
        """Note that a task starts here. Any OS thread."""
        self._heard.set()

    async def listen_for_ever(self) -> None:
        """Speak, listen and judge, until cancelled."""
        while True:
            before = clock.monotonic_seconds()
            await asyncio.sleep(self._tick_seconds)
            self._speak_when_due()
            heard = self._heard.is_set()
            if heard:
                self._heard.clear()
            self._silence.pass_time(
                clock.monotonic_seconds() - before,
                heard=heard,
                is_saturated=self._is_saturated(),
            )
            self._judge()

    def _speak_when_due(self) -> None:
        is_due = clock.monotonic_seconds() - self._spoke_at >= self._settings.ear_seconds
        is_speaking = self._speaking is not None and not self._speaking.done()
        if self._queue and is_due and not is_speaking:
            self._spoke_at = clock.monotonic_seconds()
            self._speaking = asyncio.create_task(self._speak())

    async def _speak(self) -> None:
        try:
            await self._mouth.echo(self._queue)
        except ArbeError as error:
            self._cause = str(error)
        else:
            self._cause = "the broker takes messages, but none of them arrives"

    def _is_saturated(self) -> bool:
        library: Any = celery_state
        return self._slots > 0 and len(library.reserved_requests) >= self._slots

    def _judge(self) -> None:
        is_deaf = self._silence.seconds >= self._settings.deaf_after_seconds
        if is_deaf != self._is_deaf:
            self._is_deaf = is_deaf
            self._heartbeats.hold_back(is_deaf=is_deaf)
            self._say_so()
        if is_deaf and not self._heartbeats.run_count:
            self._on_deaf()

    def _say_so(self) -> None:
        fields: dict[str, object] = {"runs": self._heartbeats.run_count}
        if self._is_deaf:
            seconds = round(self._silence.seconds, 1)
            _log.error("worker.deaf", cause=self._cause, silent_seconds=seconds, **fields)
        else:
            _log.info("worker.hears_again", **fields)
