"""Whether an agent may use a tool: at once, never, or when somebody says so.

An agent's config says it by tool: `"permissions": {"run_command": "ask"}`. A question waits in
its run for a short grace; then the turn gives its worker up, if another run can go on with it.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from dispatch import clock
from dispatch.config import Settings
from dispatch.models.permissions import Answer, Question, questions
from dispatch.models.tools import ToolConfig
from dispatch.payloads.signals import (
    AskKind,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
)
from dispatch.streams import entries, lanes, runs, threads
from dispatch.streams.connection import Connection
from dispatch.streams.entries import Entry
from dispatch.streams.scripts import Scripts
from workers.agents import ToolCall
from workers.outcomes import Waiting
from workers.writer import RunWriter

_LOOK_SECONDS: Final = 0.25
_SLOW_LOOK_SECONDS: Final = 2.0
"""After the grace nobody is in a hurry."""


class Permissions:
    """The questions of one turn."""

    def __init__(
        self,
        scripts: Scripts,
        connection: Connection,
        writer: RunWriter,
        *,
        config: ToolConfig,
        settings: Settings,
        may_leave: Callable[[], bool],
    ) -> None:
        """Args: may_leave: tells whether the turn could go on in another run from here."""
        self._scripts = scripts
        self._connection = connection
        self._writer = writer
        self._config = config
        self._settings = settings
        self._may_leave = may_leave
        self._asked: dict[str, Question] = {}
        """By tool call."""

    def read(self, found: Iterable[Entry]) -> None:
        """Take in what earlier runs of this turn asked, and what was answered."""
        for each in questions(found).values():
            if each.asked.dispatch_id == self._writer.fence.dispatch_id:
                self._asked[each.asked.tool_call_id] = each

    async def decide(self, call: ToolCall, kind: AskKind = "permission") -> Answer:
        """Return the answer to whether a call may be made; asks and waits where it must.

        Args: kind: `output`: somebody else makes the call, and the answer is what came of it.
        Raises: Fenced.
        """
        rule = "ask" if kind == "output" else self._config.permissions.get(call.name, "allow")
        dispatch_id = self._writer.fence.dispatch_id
        if rule == "allow":
            return PermissionGranted(permission_id="", dispatch_id=dispatch_id)
        if rule == "deny":
            return PermissionDenied(
                permission_id="", dispatch_id=dispatch_id, message="This tool is not permitted."
            )
        question = self._asked.get(call.id)
        if question is None:
            question = Question(await self._ask(call, kind))
            self._asked[call.id] = question
        return question.answer or await self._wait(question.asked)

    async def _ask(self, call: ToolCall, kind: AskKind) -> PermissionRequested:
        fence, config = self._writer.fence, self._config
        seconds = config.permission_seconds or self._settings.permission_seconds
        return await self._writer.ask(
            PermissionRequested(
                permission_id="",
                dispatch_id=fence.dispatch_id,
                agent_id=str(fence.lane),
                kind=kind,
                tool_call_id=call.id,
                tool_name=call.name,
                arguments=call.arguments,
                deadline=0,
                default=config.permission_default,
            ),
            wait_seconds=seconds,
        )

    async def _wait(self, asked: PermissionRequested) -> Answer:
        began = clock.monotonic_seconds()
        while True:
            answer = await self._answer_to(asked.permission_id)
            if answer is not None:
                return answer
            waited = clock.monotonic_seconds() - began
            is_late = waited >= self._settings.permission_grace_seconds
            if is_late and self._may_leave():
                self._writer.stop(Waiting())
            await asyncio.sleep(_SLOW_LOOK_SECONDS if is_late else _LOOK_SECONDS)

    async def _answer_to(self, permission_id: str) -> Answer | None:
        fence = self._writer.fence
        ask = await runs.find_ask(self._connection, fence, permission_id)
        if ask is None:
            found = await entries.everything(
                self._connection, fence.thread_id, limit=self._settings.read_chunk_entries
            )
            return questions(found)[permission_id].answer
        if await lanes.now_ms(self._connection) >= ask.deadline_ms:
            over = PermissionExpired(
                permission_id=permission_id, dispatch_id=fence.dispatch_id, default=ask.default
            )
            await threads.answer(
                self._scripts,
                fence.thread_id,
                over,
                redeliver_after_seconds=self._settings.redeliver_after_seconds,
            )
        return None


def is_granted(answer: Answer) -> bool:
    """Tell whether the call may be made, or was made."""
    return isinstance(answer, PermissionGranted) or (
        isinstance(answer, PermissionExpired) and answer.default == "grant"
    )


def refusal(answer: Answer) -> str:
    """Return what the model is told of a call that may not be made."""
    match answer:
        case PermissionDenied(message=message) if message:
            return f"Refused: {message}"
        case PermissionExpired():
            return "Refused: nobody gave permission in time."
        case _:
            return "Refused."
