"""Hands that record what an agent does, over a real sandbox."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dispatch import ids
from dispatch.config import Settings
from dispatch.ids import AgentId, DispatchId, HouseId, RunId, ThreadId
from dispatch.models import recipes
from dispatch.models.history import HistoryMessage
from dispatch.models.houses import Agent
from dispatch.payloads import llm
from workers import tools
from workers.agents import AgentPayload, Perform, ToolAnswer, ToolCall, TurnRequest
from workers.ledger import Ledger
from workers.sandboxes import CommandResult, OnOutput, Place, limits
from workers.sandboxes.local import LocalProvider

DISPATCH = DispatchId("000001700000000_0000000000.0")


class RecordingHands:
    def __init__(self, workspace: Path, *, command_seconds: float = 20.0) -> None:
        self.events: list[AgentPayload | str] = []
        self.checkpoints: list[dict[str, Any]] = []
        self.steering: dict[int, Sequence[str]] = {}
        settings = Settings(workspace_root=str(workspace))
        self._provider = LocalProvider(settings)
        self._place = Place(id=ids.uuid7(), limits=limits(settings, recipes.LOCAL))
        self._command_seconds = command_seconds
        self._ledger = Ledger(self.emit, max_text_bytes=2000)

    @property
    def database_url(self) -> SecretStr:
        return SecretStr("")

    async def emit(
        self, payload: AgentPayload, *, checkpoint: dict[str, Any] | None = None
    ) -> None:
        self.events.append(payload)
        if isinstance(payload, llm.Assistant):
            self._ledger.announce(payload.message)
        if checkpoint is not None:
            self.checkpoints.append(checkpoint)

    async def take_steering(self, step: int) -> Sequence[str]:
        return self.steering.pop(step, ())

    async def history(self) -> Sequence[HistoryMessage]:
        return ()

    async def call_tool(
        self,
        call: ToolCall,
        perform: Perform | None = None,
        on_output: OnOutput | None = None,
    ) -> ToolAnswer:
        return await self._ledger.answer(call, perform or self._perform, on_output)

    async def _perform(self, call: ToolCall, on_output: OnOutput) -> ToolAnswer:
        perform = tools.find(call.name)
        assert perform is not None
        return await perform(self, call, on_output)

    async def run_command(self, command: str, on_output: OnOutput) -> CommandResult:
        self.events.append(command)
        sandbox = await self._provider.open(self._place)
        return await sandbox.run_command(
            command,
            wall_seconds=self._command_seconds,
            max_output_bytes=1000,
            on_output=on_output,
        )

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    def chunks(self, kind: str) -> list[llm.Chunk]:
        return [chunk for chunk in self.of(llm.Chunk) if chunk.kind == kind]

    @property
    def said(self) -> list[str]:
        """The text of each finished message."""
        return [
            part["text"]
            for message in self.of(llm.Assistant)
            for part in message.message["content"]
            if part["type"] == "text"
        ]


def a_request(
    text: str, *, attempt: int = 1, checkpoint: dict[str, Any] | None = None
) -> TurnRequest:
    agent = Agent(
        id=AgentId(ids.uuid7()),
        house_id=HouseId(ids.uuid7()),
        handle="demo",
        runner="demo",
        trigger_mode="always",
        created_at=datetime.now(UTC),
    )
    return TurnRequest(
        thread_id=ThreadId(ids.uuid7()),
        dispatch_id=DISPATCH,
        attempt=attempt,
        run_id=RunId("0123456789ab"),
        agent=agent,
        entry_id=ids.entry_of(DISPATCH),
        text=text,
        checkpoint=checkpoint,
    )
