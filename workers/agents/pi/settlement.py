"""When pi is done with what it was asked.

Since 0.80.4 it says `agent_settled`. Before, `agent_end` is followed by a retry, a compaction
or queued messages, and `get_state` calls the back-off of a retry idle; but pi announces those
in the same instant as `agent_end`, and its output is in order. So after `agent_end` a question
is sent: what comes before its answer says whether pi goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from workers.agents.pi import records
from workers.agents.pi.records import Record

GOES_ON_SECONDS: Final = 2.0
"""Old versions announce after some compactions that they go on, and do not."""

AskState = Callable[[], Awaitable[str]]
"""Sends `get_state` and returns the question's id."""


class Settlement:
    """Watches one pi's events for the end of what was asked of it."""

    def __init__(self, *, tells: bool, ask_state: AskState) -> None:
        """Args: tells: this version says `agent_settled`."""
        self.done = asyncio.Event()
        self._tells = tells
        self._ask_state = ask_state
        self._barrier: str | None = None
        self._is_going_on = False
        self._timer: asyncio.TimerHandle | None = None

    def expect(self) -> None:
        """Begin to wait: something is about to be asked."""
        self.done.clear()
        self._barrier, self._is_going_on = None, False

    def close(self) -> None:
        """Stop waiting for anything."""
        if self._timer is not None:
            self._timer.cancel()

    async def take(self, record: Record) -> None:
        """Note one record; all of them must pass here, in order."""
        if self._tells:
            if record.type == "agent_settled":
                self.done.set()
            return
        match record.type:
            case "agent_start":
                self.close()
                self._barrier, self._is_going_on = None, False
            case "auto_retry_start" | "compaction_start":
                self._is_going_on = True
            case "agent_end":
                self._barrier = await self._ask_state()
            case "auto_retry_end" | "compaction_end":
                await self._go_on(record)
            case "response":
                self._take_answer(record)
            case _:
                pass

    async def _go_on(self, record: Record) -> None:
        self._is_going_on = False
        if record.type == "compaction_end" and record.will_retry:
            self._wait_a_moment()
        elif record.type == "compaction_end" or record.success is False:
            self._barrier = await self._ask_state()

    def _take_answer(self, record: Record) -> None:
        if self._barrier is None or record.id != self._barrier:
            return
        self._barrier = None
        if self._is_going_on:
            return
        try:
            state = msgspec.json.decode(record.data, type=records.State)
        except msgspec.DecodeError:
            state = records.State()
        if state.pending_message_count:
            self._wait_a_moment()
        elif not state.is_streaming:
            self.done.set()

    def _wait_a_moment(self) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(GOES_ON_SECONDS, self.done.set)
