"""The runner contract: what an agent's code is given, what it may do, what it returns.

A runner is `async def run(request, hands) -> Completed | Failed`. It emits what happens through
its hands as it happens. Cancellation reaches it as `asyncio.CancelledError`, which it may clean
up after but never swallows. Heartbeats are not its business.

Not guaranteed: that a turn runs once. A worker may die in the middle; a turn that showed
nothing since its last checkpoint, or whose agent is `repeatable`, is then run again as the next
attempt. A runner that goes on from `hands.history()` repeats nothing that was finished: what
stands last there tells how to go on.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec
from pydantic import SecretStr

from dispatch.ids import DispatchId, EntryId, RunId, ThreadId
from dispatch.models.history import HistoryMessage
from dispatch.models.houses import Agent
from dispatch.models.tools import Tool
from dispatch.payloads import LLMPayload
from dispatch.payloads.signals import Retrying
from dispatch.payloads.usage import TokenUsage
from workers.outcomes import AgentOutcome
from workers.sandboxes import CommandResult, OnOutput

__all__ = [
    "AgentPayload",
    "Forget",
    "Hands",
    "ListDeleted",
    "Perform",
    "Runner",
    "Tool",
    "ToolAnswer",
    "ToolCall",
    "TurnRequest",
]


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a model asked of a tool; `id` is the model's own, unique in its turn."""

    id: str
    name: str
    arguments: dict[str, Any]
    turn_index: int = 0


class ToolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool answered: `text` for the model, `details` for people and programs."""

    text: str
    is_error: bool = False
    details: dict[str, Any] = {}
    usage: TokenUsage | None = None


Perform: TypeAlias = Callable[[ToolCall, OnOutput], Awaitable[ToolAnswer]]
"""Does what a call asks; streams output while it is being made."""
AgentPayload: TypeAlias = LLMPayload | Retrying


class TurnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's turn: who takes it, and the entry that asks for it."""

    thread_id: ThreadId
    dispatch_id: DispatchId
    attempt: int
    run_id: RunId
    agent: Agent
    entry_id: EntryId
    """The chat entry that asks for this turn …"""
    text: str
    """… and its text."""
    tools: tuple[Tool, ...] = ()
    """The worker's own tools that the agent may call."""
    checkpoint: dict[str, Any] | None = None
    """What an earlier attempt left to go on from; None: begin at the beginning."""

    def message_id(self, number: int) -> str:
        """Name the turn's n-th message.

        Promise: no other run makes the same name, so a reader can drop the chunks of a message
        that never came to its end.
        """
        return f"{self.dispatch_id}:{self.run_id}:{number}"


class Hands(Protocol):
    """All that an agent may do to the world outside."""

    @property
    def database_url(self) -> SecretStr:
        """Return the worker's Postgres, for a framework that keeps its state there."""
        ...

    async def emit(
        self, payload: AgentPayload, *, checkpoint: dict[str, Any] | None = None
    ) -> None:
        """Append an event to the thread's stream.

        Args: checkpoint: what another attempt needs to go on after this event instead of
            beginning anew; it stands with the event in one step.
        Promise: events stand in the order of the calls. A `pi.assistant` or `pi.tool_result`
        stands on the stream on return, so intent emitted before an effect precedes it.
        """
        ...

    async def take_steering(self, step: int) -> Sequence[str]:
        """Return what people said meanwhile to steer this turn, in order.

        Args: step: counts the turn's steps from 1; the receipt on the stream names it.
        Promise: each text is handed over once; ask at the beginning of each step. What nobody
        asks for becomes a turn of its own.
        """
        ...

    async def history(self) -> Sequence[HistoryMessage]:
        """Return the conversation up to here, as the agent's model must see it, oldest first.

        The entry that asks is in it, and what earlier attempts of this turn finished. A user's
        message at its end wants an answer, a call without a result wants `call_tool`, a result
        wants the model to go on.
        """
        ...

    async def call_tool(
        self,
        call: ToolCall,
        perform: Perform | None = None,
        on_output: OnOutput | None = None,
    ) -> ToolAnswer:
        """Answer a tool call that an emitted `pi.assistant` announced.

        Args: perform: does it; None: the worker's own tool of that name does. on_output: is
            given live output beside the stream, which has it as chunks.
        Promise: the result stands on the stream on return, shortened as it is returned; one
        that stands already, by an earlier attempt, is returned again and nothing is performed.
        What `perform` raises, but cancellation, becomes an error for the model.
        Raises: Invalid, for a call that nothing announced.
        """
        ...

    async def run_command(self, command: str, on_output: OnOutput) -> CommandResult:
        """Run a shell command in the thread's sandbox, within the worker's limits.

        Raises: Invalid or Unavailable, when nothing ran.
        """
        ...


Runner: TypeAlias = Callable[[TurnRequest, Hands], Awaitable[AgentOutcome]]
ListDeleted: TypeAlias = Callable[[Collection[ThreadId]], Awaitable[Collection[ThreadId]]]
"""Tells which of some threads were deleted."""
Forget: TypeAlias = Callable[[ListDeleted, int], Awaitable[int]]
"""Removes what a runner keeps of deleted threads, so many at once; tells how much it was."""
