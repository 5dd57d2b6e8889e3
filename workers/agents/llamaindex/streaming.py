"""A step of an agent, whose words are shown while its model says them."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from llama_index.core.agent.workflow import AgentOutput, AgentStream

from workers.agents.telling import Telling


class Streaming:
    """A step's context that shows what its model says before the step is over."""

    def __init__(self, context: Any, told: Telling) -> None:
        self._context = context
        self._told = told
        self._pieces: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def write_event_to_stream(self, event: Any) -> None:
        """Note an event of the step; it is told in order."""
        if isinstance(event, AgentStream):
            self._pieces.put_nowait((event.delta, event.thinking_delta or ""))
        self._context.write_event_to_stream(event)

    async def around(self, step: Awaitable[AgentOutput]) -> AgentOutput:
        """Wait for the step; all it streamed is shown on return."""
        showing = asyncio.create_task(self._show())
        try:
            output: AgentOutput = await step
        except asyncio.CancelledError:
            showing.cancel()
            raise
        finally:
            self._pieces.put_nowait(None)
            await asyncio.wait({showing})
        await showing
        return output

    async def _show(self) -> None:
        while (piece := await self._pieces.get()) is not None:
            said, thought = piece
            await self._told.stream(thought, kind="thinking")
            await self._told.stream(said)
