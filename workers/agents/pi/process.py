"""One pi process: started in a session of its own, read line by line, ended whatever happens.

Promise: `end` leaves no process of the group, however often its caller is cancelled. A worker
that is killed takes its pi with it (Linux; elsewhere pi ends at the end of its input).
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from dispatch import clock, log
from workers.agents.pi import launcher

_log = log.get(__name__)

READ_BYTES: Final = 64 * 1024
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""A guard: the longest line seen was 1.2 MB."""
STDERR_BYTES: Final = 8 * 1024
"""What is kept of pi's log: its end, for the message when it breaks down."""
EOF_SECONDS: Final = 0.5
"""pi ends 15 ms after the end of its input, unless it hangs."""
TERM_SECONDS: Final = 0.5
REAP_SECONDS: Final = 5.0
"""A killed process may finish one call to the kernel, such as a slow disk's, before it dies."""


class LineTooLong(Exception):
    """pi wrote a line beyond the guard."""


class Process:
    """A running pi."""

    def __init__(self, process: asyncio.subprocess.Process, secret: str) -> None:
        self._process = process
        self._secret = secret.encode()
        self._stderr = bytearray()
        self.heard_at = clock.monotonic_seconds()
        """When it last wrote anything."""
        self.exited = asyncio.ensure_future(process.wait())
        self._draining = asyncio.create_task(self._drain_stderr())
        self._ending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Return its process id, which is its group's too."""
        return self._process.pid

    async def send(self, command: Mapping[str, object]) -> None:
        """Write one command. Raises: OSError, when pi no longer reads."""
        stdin = self._process.stdin
        if stdin is None or stdin.is_closing():
            raise BrokenPipeError
        stdin.write(msgspec.json.encode(command) + b"\n")
        await stdin.drain()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield what it writes, line by line, until it ends.

        Lines end with LF alone: U+2028 stands raw inside strings. asyncio's `readline` takes no
        line beyond its limit, hence the splitting here; while the reader is slow nothing is
        read, and pi waits.
        Raises: LineTooLong.
        """
        stdout = self._process.stdout
        if stdout is None:
            return
        pending: list[bytes] = []
        size = 0
        while data := await stdout.read(READ_BYTES):
            self.heard_at = clock.monotonic_seconds()
            *whole, rest = data.split(b"\n")
            for line in whole:
                yield self._blank(b"".join([*pending, line]).removesuffix(b"\r"))
                pending, size = [], 0
            pending.append(rest)
            size += len(rest)
            if size > MAX_LINE_BYTES:
                raise LineTooLong

    def last_words(self) -> str:
        """Return the end of what it wrote to its log, without secrets."""
        said = self._blank(bytes(self._stderr)).decode("utf-8", errors="replace")
        return log.scrub(said.strip())

    async def end(self, *, at_once: bool = False) -> None:
        """End it: end of input, SIGTERM, SIGKILL; the whole group. Twice is once.

        Promise: a cancellation of the caller is raised after the end, not instead of it.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(at_once=at_once))
        elif at_once:
            self.kill()
        await outlasting(self._ending)

    def kill(self) -> None:
        """Send SIGKILL to the group; harmless when nobody is left."""
        self._signal(signal.SIGKILL)

    async def _end(self, *, at_once: bool) -> None:
        try:
            if not at_once:
                self._close_stdin()
                if not await self._is_gone_within(EOF_SECONDS):
                    self._signal(signal.SIGTERM)
                    await self._is_gone_within(TERM_SECONDS)
        finally:
            # Also after an orderly end: whoever is left of the group ends with its leader.
            self.kill()
            # asyncio tells of an exit after the pipes' end, which comes late when nobody reads
            # any more, or when a stranger inherited them.
            self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
            if not await self._is_gone_within(REAP_SECONDS):
                _log.error("pi.not_reaped", pid=self.pid)
            self._draining.cancel()

    def _blank(self, said: bytes) -> bytes:
        """Blank out the key: a provider that refuses it may repeat it."""
        return said.replace(self._secret, b"[secret]") if self._secret else said

    async def _is_gone_within(self, seconds: float) -> bool:
        done, _ = await asyncio.wait({self.exited}, timeout=seconds)
        return bool(done)

    def _close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _drain_stderr(self) -> None:
        stderr = self._process.stderr
        while stderr is not None and (data := await stderr.read(READ_BYTES)):
            self._stderr += data
            del self._stderr[:-STDERR_BYTES]


async def start(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    secret: str = "",
) -> Process:
    """Start a program; `end` must follow.

    Args: secret: is blanked out of all it writes.
    Promise: a cancellation meanwhile waits for the start and ends what was started.
    Raises: OSError, when it cannot be started.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            launcher.__file__,
            str(os.getpid()),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    )
    try:
        return Process(await asyncio.shield(starting), secret)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        if not starting.cancelled() and starting.exception() is None:
            await Process(starting.result(), secret).end(at_once=True)
        raise


async def outlasting(task: "asyncio.Task[None]") -> None:
    """Wait for a task's end although cancelled meanwhile; the cancellation comes after."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as cancellation:
            cancelled = cancellation
    if cancelled is not None:
        raise cancelled
    task.result()
