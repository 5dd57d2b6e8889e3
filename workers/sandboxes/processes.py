"""Run one process to its end, whatever the end: exit, signal, wall clock, cancellation.

Promise: on return or raise, the process and its group are killed and the process is reaped.
Not guaranteed: the end of a child that left for a session of its own; bubblewrap's process
namespace ends those too, a bare process has no such fence. When the worker itself is killed,
bubblewrap ends with it and a bare process does not.
"""

import asyncio
import contextlib
import os
import signal
from typing import Any, Final

from dispatch import log
from workers.sandboxes import OnBytes, OnOutput
from workers.sandboxes.launches import Launch
from workers.sandboxes.output import Output

_log = log.get(__name__)

READ_BYTES: Final = 64 * 1024
"""What a Linux pipe holds by default: one read empties it."""
LAST_READS: Final = 16
"""Reads after the end: 1 MiB, the most a pipe holds unless root enlarged it."""
REAP_SECONDS: Final = 5.0
"""A killed process may finish one call to the kernel, such as a slow disk's, before it dies."""


class Running:
    """A process that leads its own session and group; its output comes by one pipe."""

    def __init__(self, process: asyncio.subprocess.Process, reading: int) -> None:
        self._process = process
        self._reading = reading
        self.exited = asyncio.ensure_future(process.wait())
        # Whatever the leader left behind in its group ends with it.
        self.exited.add_done_callback(lambda _: self.kill())

    def kill(self) -> None:
        """Send SIGKILL to the whole group; harmless when nobody is left.

        The group's number stays taken while a member lives. With none left it could go to a
        stranger, but only after all other process numbers were used up in an instant.
        """
        # macOS answers EPERM when only a zombie is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def bury(self) -> None:
        """Kill the group, wait a bounded time until the leader is reaped, close the pipe."""
        self.kill()
        try:
            _, late = await asyncio.wait({self.exited}, timeout=REAP_SECONDS)
            if late:
                _log.error("sandbox.not_reaped", pid=self._process.pid)
        finally:
            os.close(self._reading)

    async def read(self) -> bytes:
        """Return the next output, or nothing at its end.

        Promise: after the leader's end it returns what the pipe still holds and does not wait
        for a stranger that inherited the pipe.
        """
        while True:
            with contextlib.suppress(BlockingIOError):
                return os.read(self._reading, READ_BYTES)
            if self.exited.done():
                return b""
            await self._readable_or_exited()

    async def _readable_or_exited(self) -> None:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        either: set[asyncio.Future[Any]] = {readable, self.exited}
        loop.add_reader(self._reading, _resolve, readable)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._reading)


async def start(launch: Launch) -> Running:
    """Start the process; `finish` must follow.

    Promise: a cancellation meanwhile waits for the start and ends what was started.
    Raises: OSError, when it cannot be started.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *launch.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            env=launch.environment,
            cwd=launch.folder,
            start_new_session=True,
        )
    )
    # Our end for writing must be closed, or the pipe would never end.
    starting.add_done_callback(lambda _: os.close(writing))
    try:
        return Running(await asyncio.shield(starting), reading)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        if starting.exception() is None:
            await Running(starting.result(), reading).bury()
        else:
            os.close(reading)
        raise
    except OSError:
        os.close(reading)
        raise


async def finish(
    running: Running,
    *,
    wall_seconds: float,
    output: Output,
    on_output: OnOutput,
    on_bytes: OnBytes | None = None,
) -> int | None:
    """Wait for the end; return the exit code, minus a signal, or None at the wall clock.

    Promise: the wall clock kills the process but never cancels an `on_output`, which may be in
    the middle of an append. While `on_output` is awaited nothing is read: the process waits and
    memory stays bounded. What either raises ends the process and is raised here.
    """
    expired = asyncio.Event()

    def expire() -> None:
        if not running.exited.done():
            expired.set()
            running.kill()

    wall = asyncio.get_running_loop().call_later(wall_seconds, expire)
    try:
        await _pass_on(running, output, on_output, on_bytes)
        status = await asyncio.shield(running.exited)
    finally:
        wall.cancel()
        await running.bury()
    return None if expired.is_set() else status


async def _pass_on(
    running: Running, output: Output, on_output: OnOutput, on_bytes: OnBytes | None
) -> None:
    last_reads = LAST_READS
    while last_reads:
        last_reads -= running.exited.done()
        data = await running.read()
        shown = output.feed(data)
        if shown:
            await on_output(shown)
        if data and on_bytes is not None:
            await on_bytes(data)
        if not data:
            return
        # A fast writer always has more: without this it would hold up every other turn.
        await asyncio.sleep(0)


def _resolve(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)
