"""Hands over one thread's entries in memory; history, ledger and payloads are the real ones."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from dispatch import ids, payloads
from dispatch.ids import AgentId, DispatchId, EntryId, HouseId, RunId, ThreadId, entry_id_of
from dispatch.models.history import HistoryMessage, history
from dispatch.models.houses import Agent
from dispatch.payloads import llm
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.signals import (
    Checkpoint,
    Completed,
    Queued,
    RunLost,
    Started,
    Steered,
)
from dispatch.streams.entries import Entry
from workers.agents import AgentPayload, Perform, ToolAnswer, ToolCall, TurnRequest
from workers.ledger import Ledger
from workers.sandboxes import OnOutput
from workers.tools import RUN_COMMAND

ADA = Author("member", "1", "Ada")
TEXT_BYTES = 50 * 1024


async def echo(call: ToolCall, _: OnOutput) -> ToolAnswer:
    return ToolAnswer(text=f"ran {call.arguments['command']}")


class ThreadHands:
    """One thread and the hands of its turns; it outlives the runners that are run with it."""

    def __init__(self) -> None:
        self.agent_id = AgentId(ids.uuid7())
        self.thread_id = ThreadId(ids.uuid7())
        self.entries: list[Entry] = []
        self.events: list[AgentPayload] = []
        self.steering: list[str] = []
        self.steps: list[int] = []
        self.performed: list[ToolCall] = []
        self.tool: Perform = echo
        self.checkpoint: dict[str, Any] | None = None
        self.unwritable: Exception | None = None
        self._attempt = 0
        self._begin("")

    def ask(self, text: str) -> None:
        """End the turn before, if there is one, and begin the next."""
        if self._entry_id:
            self._add(Completed(dispatch_id=self._dispatch_id, run_id=self._run_id), own=True)
        entry_id = self._add(Chat(ADA, text))
        self._begin(entry_id)
        self._add(
            Queued(
                dispatch_id=self._dispatch_id,
                entry_id=entry_id,
                agent_id=str(self.agent_id),
                max_attempts=3,
            )
        )
        self._start()

    def lose_run(self) -> None:
        """Its worker died; the next attempt begins."""
        self._add(
            RunLost(
                dispatch_id=self._dispatch_id,
                run_id=self._run_id,
                attempt=self._attempt,
                not_before=0,
            )
        )
        self._start()

    def request(self, *, model: str = "fake-1", **config: Any) -> TurnRequest:
        agent = Agent(
            id=self.agent_id,
            house_id=HouseId(ids.uuid7()),
            handle="coder",
            runner="pi",
            trigger_mode="always",
            created_at=datetime.now(UTC),
            model=model,
            config=config,
        )
        return TurnRequest(
            thread_id=self.thread_id,
            dispatch_id=self._dispatch_id,
            attempt=self._attempt,
            run_id=self._run_id,
            agent=agent,
            entry_id=self._entry_id,
            text="",
            checkpoint=self.checkpoint,
            tools=(RUN_COMMAND,),
        )

    async def emit(
        self, payload: AgentPayload, *, checkpoint: dict[str, Any] | None = None
    ) -> None:
        if self.unwritable is not None:
            raise self.unwritable
        await asyncio.sleep(0)
        self.events.append(payload)
        self._add(payload, own=True)
        if isinstance(payload, llm.Assistant):
            self._ledger.announce(payload.message)
        if checkpoint is not None:
            self.checkpoint = checkpoint
            self._add(
                Checkpoint(
                    dispatch_id=self._dispatch_id, run_id=self._run_id, state=checkpoint
                ),
                own=True,
            )

    async def take_steering(self, step: int) -> Sequence[str]:
        self.steps.append(step)
        taken, self.steering = self.steering, []
        for text in taken:
            entry_id = self._add(Chat(ADA, text))
            self._add(
                Steered(
                    dispatch_id=f"{entry_id}.0",
                    entry_id=entry_id,
                    into=self._dispatch_id,
                    run_id=self._run_id,
                    step=step,
                )
            )
        return taken

    async def history(self) -> Sequence[HistoryMessage]:
        found = history(
            self.entries, agent_id=self.agent_id, entry_id=self._entry_id, handles={}
        )
        self._ledger.read(found, self._entry_id)
        return found

    async def call_tool(
        self,
        call: ToolCall,
        perform: Perform | None = None,
        on_output: OnOutput | None = None,
    ) -> ToolAnswer:
        async def own(call: ToolCall, on_output: OnOutput) -> ToolAnswer:
            self.performed.append(call)
            return await self.tool(call, on_output)

        return await self._ledger.answer(call, perform or own, on_output)

    async def run_command(self, command: str, on_output: OnOutput) -> Any:  # noqa: ARG002
        raise AssertionError(f"{command}: tools go through call_tool")

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def chunks(self, kind: str) -> str:
        return "".join(each.delta or "" for each in self.of(llm.Chunk) if each.kind == kind)

    @property
    def said(self) -> list[str]:
        return [
            part["text"]
            for each in self.of(llm.Assistant)
            for part in each.message["content"]
            if part["type"] == "text"
        ]

    @property
    def stops(self) -> list[str]:
        return [each.message["stopReason"] for each in self.of(llm.Assistant)]

    def _begin(self, entry_id: str) -> None:
        self._entry_id = EntryId(entry_id)
        self._dispatch_id = DispatchId(f"{entry_id}.0")
        self._attempt = 0
        self.checkpoint = None

    def _start(self) -> None:
        self._attempt += 1
        self._run_id = RunId(ids.uuid7().hex[-12:])
        self._ledger = Ledger(self.emit, max_text_bytes=TEXT_BYTES)
        self._add(
            Started(
                dispatch_id=self._dispatch_id,
                agent_id=str(self.agent_id),
                attempt=self._attempt,
                run_id=self._run_id,
                worker_id="w",
                lease_ms=1,
                hard_ms=1,
            )
        )

    def _add(self, payload: payloads.KnownPayload, *, own: bool = False) -> EntryId:
        number = len(self.entries) + 1
        now = int(datetime.now(UTC).timestamp() * 1000)
        entry_id = entry_id_of(f"{now}-{number}")
        writer = f"{self._run_id}:{number}" if own else None
        self.entries.append(Entry(entry_id, payloads.encode(payload), number, writer))
        return entry_id


async def until(condition: Callable[[], bool], *, within_seconds: float = 60.0) -> None:
    async with asyncio.timeout(within_seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
