"""Waiting for an answer from outside: in the run for a short grace, then without a worker."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from dispatch import clock
from dispatch.config import Settings
from dispatch.errors import Unavailable
from dispatch.ids import entry_of
from dispatch.models.state import Ask
from dispatch.streams import entries, lanes, threads
from dispatch.streams.connection import Connection
from dispatch.streams.entries import Entry
from dispatch.streams.scripts import Scripts
from workers.outcomes import Waiting
from workers.writer import RunWriter

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
_LOOK_SECONDS: Final = 0.25
_SLOW_LOOK_SECONDS: Final = 2.0
_HURRY: Final = 0.1
"""Looks come less and less often: a tenth of what was waited before, within the two above."""


class Question(Protocol[Answer_co]):
    """What a turn waits for."""

    @property
    def id(self) -> str:
        """Return its name on the stream."""
        ...

    def answer_in(self, found: Sequence[Entry]) -> Answer_co | None:
        """Return its answer as what follows its entry tells it."""
        ...

    def over(self, ask: Ask) -> threads.Answer:
        """Return what stands when its time is over."""
        ...


class Asks:
    """What one turn waits for."""

    def __init__(
        self,
        scripts: Scripts,
        connection: Connection,
        writer: RunWriter,
        *,
        settings: Settings,
        may_leave: Callable[[], bool],
    ) -> None:
        """Args: may_leave: tells whether the turn could go on in another run from here."""
        self._scripts = scripts
        self._connection = connection
        self._writer = writer
        self._settings = settings
        self._may_leave = may_leave

    async def wait(self, question: Question[Answer]) -> Answer:
        """Return the answer, or let the turn leave its worker and never return."""
        began = clock.monotonic_seconds()
        while True:
            answer = None
            # Whose server is away is asked again; the beats decide how long that may last.
            with contextlib.suppress(Unavailable):
                answer = await self._answer_to(question)
            if answer is not None:
                return answer
            waited = clock.monotonic_seconds() - began
            if waited >= self._settings.permission_grace_seconds and self._may_leave():
                self._writer.stop(Waiting())
            pause = max(_LOOK_SECONDS, min(_HURRY * waited, _SLOW_LOOK_SECONDS))
            await asyncio.sleep(pause)

    async def _answer_to(self, question: Question[Answer]) -> Answer | None:
        fence = self._writer.fence
        asks = await entries.list_asks(self._connection, fence.thread_id, fence.dispatch_id)
        ask = next((each for each in asks if each.id == question.id), None)
        if ask is None:
            # All that belongs to an open dispatch stands on the stream itself.
            found = await entries.rest(
                self._connection,
                fence.thread_id,
                after=entry_of(fence.dispatch_id),
                limit=self._settings.read_chunk_entries,
            )
            return question.answer_in(found)
        if await lanes.now_ms(self._connection) >= ask.deadline_ms:
            await threads.answer(
                self._scripts,
                fence.thread_id,
                question.over(ask),
                redeliver_after_seconds=self._settings.redeliver_after_seconds,
            )
        return None
