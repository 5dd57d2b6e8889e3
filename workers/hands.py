"""What an agent may do to the world during one turn: write through its run, run commands."""

from pathlib import Path
from typing import Any

from dispatch import payloads
from dispatch.config import Settings
from dispatch.ids import ThreadId
from dispatch.payloads import LLMPayload
from dispatch.payloads.chat import Chat
from workers.sandboxes import CommandResult, OnOutput
from workers.sandboxes.local import LocalSandbox
from workers.writer import RunWriter


class TurnHands:
    """The hands of one turn; see `workers.agents.Hands` for the promises."""

    def __init__(self, writer: RunWriter, *, thread_id: ThreadId, settings: Settings) -> None:
        self._writer = writer
        self._settings = settings
        self._sandbox = LocalSandbox(Path(settings.workspace_root) / str(thread_id))

    async def emit(
        self, payload: LLMPayload, *, checkpoint: dict[str, Any] | None = None
    ) -> None:
        """Append an event to the thread's stream."""
        await self._writer.emit(payload, checkpoint=checkpoint)

    async def take_steering(self, step: int) -> list[str]:
        """Return what people said meanwhile to steer this turn."""
        entries = [payloads.decode(raw) for raw in await self._writer.take_steering(step)]
        return [entry.text for entry in entries if isinstance(entry, Chat)]

    async def run_command(self, command: str, on_output: OnOutput) -> CommandResult:
        """Run a shell command in the thread's workspace, if the run still holds its lane."""
        await self._writer.assert_held()
        return await self._sandbox.run_command(
            command,
            wall_seconds=self._settings.command_seconds,
            max_output_bytes=self._settings.max_output_bytes,
            on_output=on_output,
        )
