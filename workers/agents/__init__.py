"""The runner contract: what an agent's code is given, what it may do, what it returns.

A runner is `async def run(request, hands) -> Completed | Failed`. It emits what happens through
its hands as it happens. Cancellation reaches it as `asyncio.CancelledError`, which it may clean
up after but never swallows. Heartbeats are not its business.

Not guaranteed: that a turn runs once. A worker may die in the middle; a turn that showed
nothing since its last checkpoint, or whose agent is `repeatable`, is then run again as the next
attempt.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from dispatch.ids import DispatchId, RunId, ThreadId
from dispatch.models.houses import Agent
from dispatch.payloads import LLMPayload
from workers.outcomes import AgentOutcome
from workers.sandboxes import CommandResult, OnOutput


class TurnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's turn: who takes it, and the entry that asks for it."""

    thread_id: ThreadId
    dispatch_id: DispatchId
    attempt: int
    run_id: RunId
    agent: Agent
    text: str
    """The text of the entry that asks for this turn."""
    checkpoint: dict[str, Any] | None = None
    """What an earlier attempt left to go on from; None: begin at the beginning."""

    def message_id(self, number: int) -> str:
        """Name the turn's n-th message.

        Promise: no other turn or attempt makes the same name, so a reader can drop the chunks
        of a message that never came to its end.
        """
        return f"{self.dispatch_id}:{self.attempt}:{number}"


class Hands(Protocol):
    """All that an agent may do to the world outside."""

    async def emit(
        self, payload: LLMPayload, *, checkpoint: dict[str, Any] | None = None
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

    async def run_command(self, command: str, on_output: OnOutput) -> CommandResult:
        """Run a shell command in the thread's sandbox, within the worker's limits.

        Raises: Invalid or Unavailable, when nothing ran.
        """
        ...


Runner: TypeAlias = Callable[[TurnRequest, Hands], Awaitable[AgentOutcome]]
