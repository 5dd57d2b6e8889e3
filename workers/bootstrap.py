"""One worker process: one asyncio loop on its own OS thread, on which every turn lives.

Celery's pool threads only wait for a turn to end. The loop's thread lives as long as the
process (bwrap's `--die-with-parent` watches the thread that started it). Besides the turns the
loop runs the heartbeats, and the keeper, which looks at the due index so that a dead beat stops
nothing.
"""

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from dispatch import log
from dispatch.config import Settings
from dispatch.errors import ArbeError
from dispatch.ids import WorkerId
from dispatch.operations.record import Record
from dispatch.streams import lanes
from workers.heartbeat import Heartbeats
from workers.sweeps import redeliver

_log = log.get(__name__)
Answer = TypeVar("Answer")


def new_worker_id() -> WorkerId:
    """Name this process; never the same twice, also after a restart with the same pid."""
    return WorkerId(f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}")


class Process:
    """What the tasks of one worker process share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="arbe-turns", daemon=True
        )
        self._background: list[asyncio.Task[None]] = []
        self._draining = threading.Event()

    def start(self) -> None:
        """Start the loop, the connections and the signs of life."""
        self._thread.start()
        self.run(self._open())
        _log.info("worker.started", worker_id=self.heartbeats.worker_id)

    def run(self, turn: Coroutine[Any, Any, Answer]) -> Answer:
        """Run a coroutine on the loop and wait for it, from a pool thread."""
        return asyncio.run_coroutine_threadsafe(turn, self._loop).result()

    def drain(self) -> None:
        """Take no new work and end the runs under way, in the background."""
        _log.info("worker.draining")
        self._draining.set()
        asyncio.run_coroutine_threadsafe(self.heartbeats.drain(), self._loop)

    def is_draining_within(self, seconds: float) -> bool:
        """Wait in a pool thread; True, and at once, when this process is told to end."""
        return self._draining.wait(seconds)

    def stop(self) -> None:
        """Leave the record in order and stop the loop."""
        try:
            self.run(self._close())
        except ArbeError as error:
            _log.warning("worker.left_in_disorder", cause=str(error))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        _log.info("worker.stopped")

    async def _open(self) -> None:
        self.record = Record(self.settings)
        self.heartbeats = Heartbeats(
            self.record.connection, worker_id=new_worker_id(), settings=self.settings
        )
        self._background = [
            asyncio.create_task(self.heartbeats.beat_for_ever()),
            asyncio.create_task(self._keep()),
        ]

    async def _close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        try:
            await lanes.leave(self.record.connection, self.heartbeats.worker_id)
        finally:
            await self.record.close()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.keeper_seconds)
            try:
                await redeliver.sweep(self.record)
            except ArbeError as error:
                _log.warning("keeper.failed", cause=str(error))
