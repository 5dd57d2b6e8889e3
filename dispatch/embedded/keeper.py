"""The life of one child: started, watched, started again, ended; its lines go to the journal.

Not guaranteed: that a child is ready again when it has been restarted; its users retry.
"""

import asyncio
import contextlib
import os
import signal
from typing import Final

from dispatch import clock, errors
from dispatch.embedded import launch
from dispatch.embedded.child import Child
from dispatch.embedded.journal import Journal

_FIRST_WAIT_SECONDS: Final = 0.2
_MAX_WAIT_SECONDS: Final = 15.0
_SETTLED_SECONDS: Final = 10.0
"""After a life this long, the next death is followed by the first, short wait again."""
_FIRST_DEATHS: Final = 6
"""Deaths before a child was ever ready: 6 s, enough for what a killed predecessor leaves."""
_LAST_LINES_SECONDS: Final = 1.0
_READ_BYTES: Final = 64 * 1024


class Keeper:
    """One child and the task that keeps it alive; used by the supervisor only."""

    def __init__(self, child: Child, journal: Journal) -> None:
        self.child = child
        self.process_id: int | None = None
        self._journal = journal
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._was_ready = False

    async def start(self) -> None:
        """Start the child and wait until it is ready. Raises: Unavailable."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.child.name}")
        readiness = asyncio.ensure_future(self.child.ready())
        try:
            await asyncio.wait({self._keeper, readiness}, return_when=asyncio.FIRST_COMPLETED)
            if self._keeper.done():
                await self._keeper
            await readiness
        finally:
            readiness.cancel()
            await asyncio.gather(readiness, return_exceptions=True)
        self._was_ready = True
        self._say("ready")

    async def stop(self, in_haste: asyncio.Event) -> None:
        """End the child: its stop signal, then after its grace (or in haste) SIGKILL."""
        self._stopping.set()
        if self._keeper is None:
            return
        self._signal(self.child.stop_signal)
        haste = asyncio.create_task(in_haste.wait())
        await asyncio.wait(
            {self._keeper, haste},
            timeout=self.child.stop_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        haste.cancel()
        await asyncio.gather(haste, return_exceptions=True)
        if not self._keeper.done():
            self._say("killed, it did not stop in time")
            self._signal(signal.SIGKILL)
        await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self) -> None:
        """Run the child again and again until it is to stop."""
        wait_seconds, deaths = _FIRST_WAIT_SECONDS, 0
        while not self._stopping.is_set():
            began = clock.monotonic_seconds()
            code = await self._run_once()
            if self._stopping.is_set():
                self._say("stopped")
                return
            if clock.monotonic_seconds() - began >= _SETTLED_SECONDS:
                wait_seconds, deaths = _FIRST_WAIT_SECONDS, 0
            deaths += 1
            if deaths >= _FIRST_DEATHS and not self._was_ready:
                raise errors.Unavailable(
                    f"'{self.child.name}'",
                    cause=f"it ended {deaths} times while starting, {_ending(code)}",
                    next_step="Read its last lines in the log.",
                )
            self._say(f"ended {_ending(code)}, starts again in {wait_seconds:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_seconds)
            wait_seconds = min(2 * wait_seconds, _MAX_WAIT_SECONDS)

    async def _run_once(self) -> int:
        """Run the child to its end and carry its output to the journal."""
        reading_end, writing_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *launch.command(self.child.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing_end,
                stderr=writing_end,
                env={**os.environ, **self.child.environment},
                start_new_session=True,
            )
        except OSError as error:  # no memory, no process left: as if it had died at once
            os.close(reading_end)
            self._say(f"cannot be started: {error}")
            return error.errno or 1
        except BaseException:
            os.close(reading_end)
            raise
        finally:
            os.close(writing_end)
        self.process_id = process.pid
        reader = asyncio.create_task(self._carry(reading_end))
        if self._stopping.is_set():  # it was asked to stop while it was being started
            self._signal(self.child.stop_signal)
        code = await process.wait()
        # What it left in its process group must not go on without it.
        self._signal(signal.SIGKILL)
        self.process_id = None
        await asyncio.wait({reader}, timeout=_LAST_LINES_SECONDS)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        return code

    async def _carry(self, reading_end: int) -> None:
        """Copy lines until nobody holds the other end any more."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(reading_end, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        rest = b""
        try:
            while data := await reader.read(_READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._journal.write(self.child.name, line.decode(errors="replace"))
                if len(rest) > _READ_BYTES:  # a line without end is cut into several
                    self._journal.write(self.child.name, rest.decode(errors="replace"))
                    rest = b""
        finally:
            transport.close()
            if rest:
                self._journal.write(self.child.name, rest.decode(errors="replace"))

    def _signal(self, number: signal.Signals) -> None:
        """Signal the child; SIGKILL goes to its whole process group."""
        if self.process_id is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(self.process_id, number)
            else:
                os.kill(self.process_id, number)

    def _say(self, what: str) -> None:
        moment = clock.now().strftime("%H:%M:%S")
        self._journal.write("arbe", f"{moment} {self.child.name} {what}")


def _ending(code: int) -> str:
    """Describe a return code as asyncio gives it: negative means a signal."""
    if code >= 0:
        return f"with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"
