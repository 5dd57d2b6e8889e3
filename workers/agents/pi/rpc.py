"""pi's RPC protocol over one process: commands with their answers, and the events in order.

One queue holds what pi wrote, in its order, and is bounded: when the stream is slow, pi waits.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from dispatch import log
from workers.agents.pi import records
from workers.agents.pi.process import LineTooLong, Process
from workers.agents.pi.records import Record

_log = log.get(__name__)

QUEUED_RECORDS: Final = 256
EXIT_SECONDS: Final = 1.0
"""Between the end of pi's output, or of its input, and its exit."""
DIALOGS: Final = frozenset({"select", "confirm", "input", "editor"})
"""Questions of an extension: unanswered, they would hold up pi for ever."""

OnRecord = Callable[[Record], Awaitable[None]]


class Broken(Exception):
    """pi ended, or does not answer: `what` says how."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


class Refused(Exception):
    """pi answered a command with an error."""


class Rpc:
    """The conversation with one pi. `on_record` gets every event, one after the other."""

    def __init__(self, process: Process, on_record: OnRecord) -> None:
        self.process = process
        self._on_record = on_record
        self._queue: asyncio.Queue[Record | None] = asyncio.Queue(QUEUED_RECORDS)
        self._answers: dict[str, asyncio.Future[Record]] = {}
        self._number = 0
        self._is_busy = False
        self._reading = asyncio.create_task(self._read())
        self.ended = asyncio.create_task(self._dispatch())
        """Done when pi has ended; raises what `on_record` raised."""

    @property
    def is_busy(self) -> bool:
        """Tell whether something pi said is still being worked at."""
        return self._is_busy or not self._queue.empty()

    async def post(self, kind: str, **fields: object) -> str:
        """Send a command without waiting; return its id. Raises: Broken."""
        self._number += 1
        identity = f"arbe-{self._number}"
        try:
            await self.process.send({"id": identity, "type": kind, **fields})
        except OSError as error:
            raise Broken(self._obituary()) from error
        return identity

    async def ask(self, kind: str, *, within_seconds: float, **fields: object) -> Record:
        """Send a command and return its answer.

        Not to be called from `on_record`, which is where answers come by.
        Raises: Refused; Broken, also when no answer comes within the time.
        """
        self._number += 1
        identity = f"arbe-{self._number}"
        answer: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._answers[identity] = answer
        try:
            async with asyncio.timeout(within_seconds):
                await self.process.send({"id": identity, "type": kind, **fields})
                ends: set[asyncio.Future[Any]] = {answer, self.ended}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            raise Broken(f"pi did not answer '{kind}' within {within_seconds:g} s.") from error
        except OSError as error:
            raise await self.wait_ended() from error
        finally:
            del self._answers[identity]
        if not answer.done():
            raise await self.wait_ended()
        record = answer.result()
        if record.success is False:
            raise Refused(log.scrub(str(record.error)))
        return record

    async def wait_ended(self) -> Broken:
        """Wait for pi's end and return how it ended; raises what `on_record` raised."""
        ends: set[asyncio.Future[Any]] = {self.ended, self.process.exited}
        await asyncio.wait(ends, timeout=EXIT_SECONDS)
        if self.ended.done():
            self.ended.result()
        return Broken(self._obituary())

    async def close(self) -> None:
        """Stop reading. The process is not touched."""
        for task in (self._reading, self.ended):
            task.cancel()
        done, _ = await asyncio.wait({self._reading, self.ended})
        for task in done:
            # What it raised was told where it mattered.
            if not task.cancelled():
                task.exception()

    def _obituary(self) -> str:
        exited = self.process.exited
        code = f" with exit code {exited.result()}" if exited.done() else ""
        said = self.process.last_words()
        return f"pi ended{code}." + (f" It said: {said[-1000:]}" if said else "")

    async def _read(self) -> None:
        try:
            async for line in self.process.lines():
                record = records.decode(line)
                if record is None:
                    _log.warning("pi.line_unreadable", length=len(line))
                else:
                    await self._queue.put(record)
        except LineTooLong:
            _log.error("pi.line_too_long")
            self.process.kill()
        await self._queue.put(None)

    async def _dispatch(self) -> None:
        while (record := await self._queue.get()) is not None:
            self._is_busy = True
            try:
                await self._take(record)
            finally:
                self._is_busy = False

    async def _take(self, record: Record) -> None:
        if record.type == "extension_ui_request":
            await self._decline(record)
            return
        answer = self._answers.get(str(record.id)) if record.type == "response" else None
        if answer is not None:
            if not answer.done():
                answer.set_result(record)
            return
        await self._on_record(record)

    async def _decline(self, record: Record) -> None:
        if record.method in DIALOGS:
            refusal: dict[str, Any] = {
                "type": "extension_ui_response",
                "id": record.id,
                "cancelled": True,
            }
            with contextlib.suppress(OSError):
                await self.process.send(refusal)
