"""Whether an agent may use a tool: at once, never, or when somebody says so.

An agent's config says it by tool: `"permissions": {"run_command": "ask"}`. A question waits in
its run for a short grace; then the turn gives its worker up, if another run can go on with it.
"""

from collections.abc import Iterable, Sequence

import msgspec

from dispatch.config import Settings
from dispatch.models.permissions import Answer, Question, questions
from dispatch.models.state import Ask
from dispatch.models.tools import ToolConfig
from dispatch.payloads.signals import (
    AskKind,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
)
from dispatch.streams.entries import Entry
from workers.agents import ToolCall
from workers.asks import Asks
from workers.writer import RunWriter


class Permissions:
    """The questions of one turn."""

    def __init__(
        self, writer: RunWriter, asks: Asks, *, config: ToolConfig, settings: Settings
    ) -> None:
        self._writer = writer
        self._asks = asks
        self._config = config
        self._settings = settings
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
        if question.answer is not None:
            return question.answer
        return await self._asks.wait(_Open(question.asked))

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


class _Open(msgspec.Struct, frozen=True):
    """A question nobody has answered."""

    asked: PermissionRequested

    @property
    def id(self) -> str:
        return self.asked.permission_id

    def answer_in(self, found: Sequence[Entry]) -> Answer | None:
        return questions(found)[self.id].answer

    def over(self, ask: Ask) -> PermissionExpired:
        return PermissionExpired(
            permission_id=ask.id, dispatch_id=self.asked.dispatch_id, default=ask.default
        )


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
