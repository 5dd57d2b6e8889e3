"""What an agent may do to the world during one turn: write through its run, use tools."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from dispatch import payloads
from dispatch.errors import Invalid, SandboxDied
from dispatch.models import policies
from dispatch.models import tools as tool_config
from dispatch.models.history import HistoryMessage, history
from dispatch.operations.record import Record
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.signals import PermissionGranted
from workers import permissions, tools
from workers.agents import AgentPayload, Perform, ToolAnswer, ToolCall, TurnRequest
from workers.asks import Asks
from workers.delegations import Delegations
from workers.ledger import Ledger
from workers.outcomes import Failed
from workers.permissions import Permissions
from workers.sandboxes import CommandResult, OnOutput
from workers.sandboxes.threads import ThreadSandbox
from workers.writer import RunWriter


class TurnHands:
    """The hands of one turn; see `workers.agents.Hands` for the promises."""

    def __init__(
        self,
        record: Record,
        writer: RunWriter,
        request: TurnRequest,
        handles: Mapping[str, str],
    ) -> None:
        """Args: handles: of the house's agents by id, as the turn began."""
        self._record = record
        self._writer = writer
        self._request = request
        self._handles = handles
        self._settings = record.settings
        self._ledger = Ledger(
            self.emit,
            max_text_bytes=record.settings.max_tool_text_bytes,
            permit=self._permit,
        )
        self._config = tool_config.of(request.agent.config)
        asks = Asks(
            record.scripts,
            record.connection,
            writer,
            settings=record.settings,
            may_leave=self._may_leave,
        )
        self._permissions = Permissions(
            writer, asks, config=self._config, settings=record.settings
        )
        self._delegations = Delegations(record, writer, asks, request=request)
        self._acting = 0
        """Calls that are being performed."""
        self._has_read = False
        """The ledger knows what an earlier attempt left on the stream."""
        self._sandbox = ThreadSandbox(record, request.thread_id)

    @property
    def database_url(self) -> SecretStr:
        """Return the worker's Postgres."""
        return self._settings.database_url

    async def emit(
        self, payload: AgentPayload, *, checkpoint: dict[str, Any] | None = None
    ) -> None:
        """Append an event to the thread's stream."""
        await self._writer.emit(payload, checkpoint=checkpoint)
        if isinstance(payload, Assistant):
            self._ledger.announce(payload.message)
        elif isinstance(payload, ToolResult):
            self._ledger.record(payload)

    async def take_steering(self, step: int) -> list[str]:
        """Return what people said meanwhile to steer this turn."""
        found = [payloads.decode(raw) for raw in await self._writer.take_steering(step)]
        return [entry.text for entry in found if isinstance(entry, Chat)]

    async def history(self) -> Sequence[HistoryMessage]:
        """Return the conversation up to here, as the agent's model must see it."""
        record, request = self._record, self._request
        read = await record.entries.everything(
            request.thread_id, limit=self._settings.read_chunk_entries
        )
        found = history(
            read,
            agent_id=request.agent.id,
            entry_id=request.entry_id,
            handles=self._handles,
        )
        self._ledger.read(found, request.entry_id)
        self._permissions.read(read)
        self._delegations.read(read)
        self._has_read = True
        return found

    async def call_tool(
        self,
        call: ToolCall,
        perform: Perform | None = None,
        on_output: OnOutput | None = None,
    ) -> ToolAnswer:
        """Answer a tool call: from the record, or by performing it."""
        if not self._has_read:
            await self.history()
        return await self._ledger.answer(
            call, self._acting_out(perform or self._perform), on_output
        )

    async def run_command(self, command: str, on_output: OnOutput) -> CommandResult:
        """Run a shell command in the thread's sandbox, if the run still holds its lane.

        Promise: a sandbox that died takes the run with it, whatever the agent makes of the
        error.
        """
        await self._writer.assert_held()
        try:
            return await self._sandbox.run_command(command, on_output)
        except SandboxDied as died:
            self._writer.stop(Failed(reason=died.code, message=str(died)))
            raise

    async def _permit(self, call: ToolCall) -> ToolAnswer | None:
        """Let somebody say yes, or do it themselves, where the agent's config asks so."""
        is_theirs = self._config.is_function(call.name)
        answer = await self._permissions.decide(call, "output" if is_theirs else "permission")
        if not permissions.is_granted(answer):
            return ToolAnswer(text=permissions.refusal(answer), is_error=True)
        if isinstance(answer, PermissionGranted) and answer.output is not None:
            return ToolAnswer(text=answer.output, is_error=answer.is_error)
        return None

    async def delegate(self, call: ToolCall, given: tools.TaskGiven) -> ToolAnswer:
        """Give a task to another agent and wait for what comes of it."""
        return await self._delegations.perform(call, given, idle=self._idle)

    @contextmanager
    def _idle(self) -> Generator[None]:
        """Perform nothing for a while: another run could go on from here."""
        self._acting -= 1
        try:
            yield
        finally:
            self._acting += 1

    def _acting_out(self, perform: Perform) -> Perform:
        """Count a call while it is performed."""

        async def act(call: ToolCall, on_output: OnOutput) -> ToolAnswer:
            self._acting += 1
            try:
                return await perform(call, on_output)
            finally:
                self._acting -= 1

        return act

    def _may_leave(self) -> bool:
        """Tell whether another run could go on from here: nothing would be done again."""
        agent = self._request.agent
        policy = policies.of(agent.config, self._settings, runner=agent.runner)
        return policy.repeatable and not self._acting

    async def _perform(self, call: ToolCall, on_output: OnOutput) -> ToolAnswer:
        perform = tools.find(call.name)
        if perform is None or call.name not in {tool.name for tool in self._request.tools}:
            raise Invalid(f"There is no tool '{call.name}'.")
        return await perform(self, call, on_output)
