"""A place for one process: who stands there is started again when it ends, however."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from dispatch.embedded import launch
from tests.chaos.events import FaultLog, now_ms

_PROBE_SECONDS: Final = 0.1
_RESTART_SECONDS: Final = 0.3
"""After an end that nobody asked for; a crash loop must not eat the machine."""
_ENVIRONMENT: Final = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("ARBE_") and not name.endswith("_URL")
}
"""Ours, without what would configure the system."""


@dataclass(eq=False)
class Slot:
    """One place. `process` is who stands there, if anybody does."""

    name: str
    command: Callable[[], Sequence[str]]
    answers: Callable[["Slot"], Awaitable[bool]]
    """Tells whether the process serves; asked again and again after each start."""
    log: FaultLog
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    before_start: Callable[[], None] | None = None
    """Done once, while nobody stands there."""
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ready_at_ms: int = 0
    started_at_ms: int = 0
    kills: int = 0
    """Deaths by a SIGKILL of ours."""
    _struck: int | None = None
    _pause_seconds: float = _RESTART_SECONDS
    _task: "asyncio.Task[None] | None" = None

    @property
    def pid(self) -> int | None:
        """Return who stands there, while it lives."""
        process = self.process
        return process.pid if process is not None and process.returncode is None else None

    def open(self) -> None:
        """Begin to start whoever belongs here."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Start nobody any more; end who is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def send(self, number: signal.Signals, *, restart_after_seconds: float = 0.0) -> bool:
        """Send a signal; False if nobody was there."""
        if self.pid is None:
            return False
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self._pause_seconds = restart_after_seconds
        if number == signal.SIGKILL:
            self._struck = self.pid
        self._signal(self.pid, number)
        return True

    def _signal(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)

    async def _keep(self) -> None:
        while True:
            process = await self._start()
            waiting = asyncio.create_task(self._wait_ready(process.pid))
            code = await process.wait()
            waiting.cancel()
            self.ready.clear()
            self.log.note("ended", self.name, _how(code), pid=process.pid)
            self.kills += code == -signal.SIGKILL and self._struck == process.pid
            pause_seconds, self._pause_seconds = self._pause_seconds, _RESTART_SECONDS
            await asyncio.sleep(pause_seconds)

    async def _start(self) -> asyncio.subprocess.Process:
        if self.before_start is not None:
            act, self.before_start = self.before_start, None
            act()
        with (self.folder / f"{self.name}.log").open("ab") as output:
            self.process = await self._launch(output)
        self.started_at_ms = now_ms()
        self.log.note("started", self.name, pid=self.process.pid)
        return self.process

    async def _launch(self, output: BinaryIO) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *launch.command(self.command()),
            env={**_ENVIRONMENT, **self.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    async def _wait_ready(self, pid: int) -> None:
        while not await self.answers(self):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(random.uniform(0.5, 1.5) * _PROBE_SECONDS)  # noqa: S311
        self.ready_at_ms = now_ms()
        self.ready.set()
        self.log.note("ready", self.name, pid=pid)


async def wait_ready(slots: Sequence[Slot], *, timeout_seconds: float) -> list[Slot]:
    """Wait until all serve; return those that do not in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            for slot in slots:
                await slot.ready.wait()
    return [slot for slot in slots if not slot.ready.is_set()]


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit {code}"
