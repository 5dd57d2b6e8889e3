"""What a turn's calls of `delegate_task` come to: a task made once, waited for, answered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from dispatch.errors import Invalid, Unavailable
from dispatch.ids import ThreadId
from dispatch.models import tools as tool_config
from dispatch.models.delegations import Delegation, delegations
from dispatch.models.state import Ask
from dispatch.operations import delegations as tasks
from dispatch.operations.delegations import Call
from dispatch.operations.record import Record
from dispatch.payloads.signals import Delegated, DelegationEnded
from dispatch.streams.entries import Entry
from workers.agents import ToolAnswer, ToolCall, TurnRequest
from workers.asks import Asks
from workers.tools import TaskGiven
from workers.writer import RunWriter

Made = TypeVar("Made")
_RETRY_SECONDS: Final = 0.5
Idle = Callable[[], AbstractContextManager[None]]


class Delegations:
    """The tasks that one turn gave."""

    def __init__(
        self, record: Record, writer: RunWriter, asks: Asks, *, request: TurnRequest
    ) -> None:
        self._record = record
        self._writer = writer
        self._asks = asks
        self._request = request
        self._config = tool_config.of(request.agent.config)
        self._given: dict[str, Delegation] = {}
        """By tool call."""
        self._giving = asyncio.Lock()

    def read(self, found: Iterable[Entry]) -> None:
        """Take in what earlier runs of this turn gave, and what came of it."""
        for each in delegations(found).values():
            if each.asked.dispatch_id == self._request.dispatch_id:
                self._given[each.asked.tool_call_id] = each

    async def perform(self, call: ToolCall, given: TaskGiven, *, idle: Idle) -> ToolAnswer:
        """Return what came of a call's task; gives it first, if nobody has.

        Args: idle: holds while nothing is done but wait.
        Raises: Invalid, NotFound, Forbidden (for the model to read), Fenced, Unavailable.
        """
        known = self._given.get(call.id)
        if known is None:
            async with self._giving:
                known = Delegation(await self._give(call, given))
                self._given[call.id] = known
        ended = known.ended or await self._wait(known.asked, idle)
        self._given[call.id] = Delegation(known.asked, ended)
        if ended.status == "expired":
            thread_id = _thread_of(known.asked)
            await _insisting(lambda: tasks.give_up(self._record, thread_id))
        return _answer(known.asked, ended, self._seconds)

    @property
    def _seconds(self) -> float:
        return self._config.delegation_seconds or self._record.settings.delegation_seconds

    async def _give(self, call: ToolCall, given: TaskGiven) -> Delegated:
        handle = given.agent.strip().removeprefix("@")
        self._check(handle)
        config, settings = self._config, self._record.settings
        its = Call(
            agent=self._request.agent,
            thread_id=self._request.thread_id,
            dispatch_id=self._request.dispatch_id,
            call_id=call.id,
            handle=handle,
            text=given.task,
            name=given.name,
            max_depth=_least(config.max_delegation_depth, settings.max_delegation_depth),
        )
        await self._writer.assert_held()
        begun = await _insisting(lambda: tasks.begin(self._record, its))
        return await self._writer.ask(
            Delegated(
                delegation_id=begun.id,
                dispatch_id=self._request.dispatch_id,
                agent_id=str(begun.agent_id),
                tool_call_id=call.id,
                thread_id=str(begun.thread_id),
                deadline=0,
            ),
            wait_seconds=self._seconds,
        )

    def _check(self, handle: str) -> None:
        """Return if this turn may give one more task, to that agent.

        Raises: Invalid, which says which limit it is.
        """
        config, settings = self._config, self._record.settings
        allowed = config.delegates_to
        if allowed is not None and handle not in {each.removeprefix("@") for each in allowed}:
            names = ", ".join(f"@{each.removeprefix('@')}" for each in allowed) or "nobody"
            raise Invalid(f"You may not give tasks to @{handle} (`delegatesTo`: {names}).")
        most = _least(config.max_delegations, settings.max_delegations)
        if len(self._given) >= most:
            raise Invalid(
                f"This turn has given {most} tasks, no more are allowed (ARBE_MAX_DELEGATIONS, "
                "`maxDelegations`).",
                next_step="Go on with what you have.",
            )
        most = _least(config.max_open_delegations, settings.max_open_delegations)
        if sum(each.ended is None for each in self._given.values()) >= most:
            raise Invalid(
                f"{most} tasks of this turn are open, no more may be at once "
                "(ARBE_MAX_OPEN_DELEGATIONS, `maxOpenDelegations`).",
                next_step="Wait for the others, then call again.",
            )

    async def _wait(self, asked: Delegated, idle: Idle) -> DelegationEnded:
        # It may have ended before we asked, and whoever ended it found nobody waiting.
        place = (self._request.thread_id, self._request.dispatch_id)
        only = _thread_of(asked)
        await _insisting(lambda: tasks.look_at(self._record, *place, only=only))
        with idle():
            return await self._asks.wait(_Open(asked))


class _Open(msgspec.Struct, frozen=True):
    """A task that somebody works at."""

    asked: Delegated

    @property
    def id(self) -> str:
        return self.asked.delegation_id

    def answer_in(self, found: Sequence[Entry]) -> DelegationEnded | None:
        return delegations(found)[self.id].ended

    def over(self, ask: Ask) -> DelegationEnded:
        return DelegationEnded(
            delegation_id=ask.id, dispatch_id=self.asked.dispatch_id, status="expired"
        )


def _answer(asked: Delegated, ended: DelegationEnded, seconds: float) -> ToolAnswer:
    details = {
        "threadId": asked.thread_id,
        "agentId": asked.agent_id,
        "status": ended.status,
        "reason": ended.reason,
    }
    return ToolAnswer(
        text=_told(ended, seconds),
        is_error=ended.status != "completed",
        details={name: value for name, value in details.items() if value is not None},
        usage=ended.usage,
    )


def _told(ended: DelegationEnded, seconds: float) -> str:
    why = f": {ended.message}" if ended.message else "."
    match ended.status:
        case "completed":
            return ended.text or "It is done; nothing was said."
        case "failed":
            return f"The task failed ({ended.reason}){why}"
        case "cancelled":
            return f"The task was cancelled{why}"
        case "expired":
            return f"The task was given up: it took longer than {seconds:g} s."


async def _insisting(act: Callable[[], Awaitable[Made]]) -> Made:
    """Do what may be done again, until the servers answer; else a task may be left alone.

    Whoever waits in vain is ended by the clocks of its run.
    """
    while True:
        try:
            return await act()
        except Unavailable:
            await asyncio.sleep(_RETRY_SECONDS)


def _thread_of(asked: Delegated) -> ThreadId:
    return ThreadId(UUID(asked.thread_id))


def _least(mine: int | None, most: int) -> int:
    return most if mine is None else min(mine, most)
