"""One worker process: one asyncio loop on its own OS thread, on which every turn lives.

Celery's pool threads only wait for a turn to end. The loop's thread lives as long as the
process (bwrap's `--die-with-parent` watches the thread that started it). Besides the turns the
loop runs the heartbeats, and the keeper, which looks at the due index and at cancels that are
owed, so that a dead beat stops nothing. A loop that hangs, or a shutdown that does, ends the
process all the same.
"""

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from dispatch import clock, log
from dispatch.config import Settings
from dispatch.errors import ArbeError
from dispatch.ids import ThreadId, WorkerId
from dispatch.operations.record import Record
from dispatch.streams import lanes
from workers import leaving
from workers.agents import registry
from workers.agents.pi import leftovers
from workers.ear import Ear
from workers.heartbeat import Heartbeats
from workers.leaving import Leaving
from workers.sweeps import cancellations, checkpoints, reconcile, redeliver, workspaces
from workers.watchdog import Watchdog

_log = log.get(__name__)
Answer = TypeVar("Answer")
_SETTLE_SECONDS: Final = 2.0
"""What a process that ends by force still gives a Redis that may be away too."""


def new_worker_id() -> WorkerId:
    """Name this process; never the same twice, also after a restart with the same pid."""
    return WorkerId(f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}")


async def _clear_after_the_dead() -> None:
    """End what agents' processes left of workers of this machine that were killed."""
    try:
        count = await asyncio.to_thread(leftovers.sweep)
    except OSError as problem:
        _log.warning("leftovers.not_swept", cause=str(problem))
        return
    if count:
        _log.info("leftovers.swept", count=count)


class Process:
    """What the tasks of one worker process share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="arbe-turns", daemon=True
        )
        self._background: list[asyncio.Task[None]] = []
        self._listening: asyncio.Task[None] | None = None
        self._draining = threading.Event()
        self._leaving = Leaving(self._settle)
        self._watchdog = Watchdog(
            self._loop,
            wedged_after_seconds=settings.wedged_after_seconds,
            on_wedged=self._end_wedged,
        )

    def start(self) -> None:
        """Start the loop, the connections and the signs of life."""
        self._thread.start()
        self.run(self._open())
        self._watchdog.start()
        _log.info("worker.started", worker_id=self.heartbeats.worker_id)

    def run(self, turn: Coroutine[Any, Any, Answer]) -> Answer:
        """Run a coroutine on the loop and wait for it, from a pool thread."""
        return asyncio.run_coroutine_threadsafe(turn, self._loop).result()

    def drain(self) -> None:
        """Take no new work and end the runs under way, in the background; twice is once.

        Promise: the process is gone `leaving.LEAVE_SECONDS` after the drain, whatever hangs.
        """
        if self._draining.is_set():
            return
        self._draining.set()
        _log.info("worker.draining")
        within_seconds = self.settings.drain_seconds + leaving.LEAVE_SECONDS
        self._leaving.begin(within_seconds=within_seconds, code=0)
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop)

    def leave(self) -> None:
        """End this process, draining its runs, so that its supervisor starts a new one."""
        drain_seconds = self.settings.drain_seconds if self.heartbeats.run_count else 0.0
        self._leaving.begin(
            within_seconds=drain_seconds + leaving.LEAVE_SECONDS, code=leaving.RESTART_CODE
        )
        self.drain()
        leaving.ask_celery(leaving.RESTART_CODE)

    def is_draining_within(self, seconds: float) -> bool:
        """Wait in a pool thread; True, and at once, when this process is told to end."""
        return self._draining.wait(seconds)

    def stop(self) -> None:
        """Leave the record in order and stop the loop."""
        drain_seconds = self.settings.drain_seconds if self.heartbeats.run_count else 0.0
        self._leaving.begin(within_seconds=drain_seconds + leaving.LEAVE_SECONDS, code=0)
        try:
            self.run(self._close())
        except ArbeError as error:
            _log.warning("worker.left_in_disorder", cause=str(error))
        self._watchdog.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        _log.info("worker.stopped")

    async def _open(self) -> None:
        self.record = Record(self.settings)
        self.heartbeats = Heartbeats(
            self.record.connection, worker_id=new_worker_id(), settings=self.settings
        )
        self.ear = Ear(
            self.record.transport,
            self.heartbeats,
            settings=self.settings,
            on_deaf=self.leave,
        )
        self._listening = self._in_background(self.ear.listen_for_ever())
        self._in_background(self.heartbeats.beat_for_ever())
        for sweep in (redeliver.sweep, reconcile.sweep, cancellations.sweep):
            self._in_background(self._keep(sweep))
        self._in_background(self._release_workspaces())
        self._in_background(_clear_after_the_dead())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._leave_if_broken)
        self._background.append(task)
        return task

    def _leave_if_broken(self, task: asyncio.Task[None]) -> None:
        """Leave when the beats, the keeper or the ear ended: a new process has them."""
        if not task.cancelled() and task.exception() is not None:
            _log.error("worker.broken", exc_info=task.exception())
            self.leave()

    async def _drain(self) -> None:
        # Told to end, it hears nothing any more, and rightly so.
        if self._listening is not None:
            self._listening.cancel()
        await self.heartbeats.drain()

    async def _close(self) -> None:
        if self.heartbeats.run_count:
            # Celery ended by itself: our runs are kept alive until each has its end.
            await self.heartbeats.drain()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        try:
            await self._say_goodbye()
        finally:
            await self.record.close()
            await registry.close()

    async def _say_goodbye(self) -> None:
        """Be forgotten, unless the record has a run of ours: then the sweeps find us dead."""
        connection, worker_id = self.record.connection, self.heartbeats.worker_id
        if not await lanes.list_runs(connection, worker_id):
            await lanes.leave(connection, worker_id)

    def _settle(self) -> bool:
        """Say goodbye by force; False if a run is left behind."""
        if self.heartbeats.run_count:
            return False
        goodbye = asyncio.run_coroutine_threadsafe(self._say_goodbye(), self._loop)
        try:
            goodbye.result(_SETTLE_SECONDS)
        except (ArbeError, TimeoutError) as error:
            # Nothing is lost: a process that holds nothing only looks dead for a while.
            _log.warning("worker.left_in_disorder", cause=str(error))
        return True

    def _end_wedged(self) -> None:
        leaving.by_force(
            leaving.RESTART_CODE,
            "worker.wedged",
            silent_seconds=self.settings.wedged_after_seconds,
            runs=self.heartbeats.run_count,
        )

    async def _keep(self, sweep: Callable[[Record], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(self.settings.keeper_seconds)
            try:
                await sweep(self.record)
            except ArbeError as error:
                _log.warning("keeper.failed", cause=str(error))

    async def _release_workspaces(self) -> None:
        due_at = clock.monotonic_seconds()
        while True:
            refused = await self._next_refused(until=due_at)
            try:
                if refused is None:
                    await workspaces.sweep(self.record, self.heartbeats)
                    await checkpoints.sweep(self.record)
                else:
                    await workspaces.release(self.record, self.heartbeats, [refused])
            except ArbeError as error:
                _log.warning("workspaces.not_looked_at", cause=str(error))
            if refused is None:
                due_at = clock.monotonic_seconds() + self.settings.workspace_sweep_seconds

    async def _next_refused(self, *, until: float) -> ThreadId | None:
        """Wait for a thread whose run was refused; None when it is time to look at all."""
        try:
            async with asyncio.timeout(max(0.0, until - clock.monotonic_seconds())):
                return await self.heartbeats.refused.get()
        except TimeoutError:
            return None
