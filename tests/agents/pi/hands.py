"""Hands that hold one thread's record in memory, as the contract of `workers.agents` says."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from dispatch import ids
from dispatch.ids import AgentId, DispatchId, EntryId, HouseId, RunId, ThreadId
from dispatch.models.houses import Agent
from dispatch.payloads import LLMPayload, llm
from workers.agents import HistoryMessage, Tool, ToolAnswer, ToolCall, TurnRequest
from workers.sandboxes import OnOutput

RUN_COMMAND = Tool(
    name="run_command",
    description="Run a shell command.",
    parameters={
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
)
TAIL_BYTES = 50 * 1024

OwnTool = Callable[[ToolCall], Awaitable[ToolAnswer]]


async def echo(call: ToolCall) -> ToolAnswer:
    return ToolAnswer(text=f"ran {call.arguments['command']}")


class ThreadHands:
    """One thread; a turn begins with `ask`. It outlives the runners that are run with it."""

    def __init__(self) -> None:
        self.thread_id = ThreadId(ids.uuid7())
        self.events: list[LLMPayload] = []
        self.items: list[HistoryMessage] = []
        self.steering: list[str] = []
        self.steps: list[int] = []
        self.performed: list[ToolCall] = []
        self.tool: OwnTool = echo
        self.checkpoint: dict[str, Any] | None = None
        self.on_emit: Callable[[LLMPayload], None] = lambda _: None
        self.is_unwritable: Exception | None = None
        self._turn = 0
        self._entry = EntryId("")

    def ask(self, text: str) -> EntryId:
        self._turn += 1
        self.checkpoint = None
        self._entry = self._said(text)
        return self._entry

    def request(self, *, model: str = "fake-1", attempt: int = 1, **config: Any) -> TurnRequest:
        agent = Agent(
            id=AgentId(ids.uuid7()),
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
            dispatch_id=DispatchId(f"dispatch-{self._turn}"),
            attempt=attempt,
            run_id=RunId(f"{self._turn:06x}{attempt:06x}"),
            agent=agent,
            entry_id=self._entry,
            text="",
            checkpoint=self.checkpoint,
            tools=(RUN_COMMAND,),
        )

    async def emit(
        self, payload: LLMPayload, *, checkpoint: dict[str, Any] | None = None
    ) -> None:
        if self.is_unwritable is not None:
            raise self.is_unwritable
        self.events.append(payload)
        if checkpoint is not None:
            self.checkpoint = checkpoint
        failed = {"error", "aborted"}
        if isinstance(payload, llm.Assistant) and payload.message["stopReason"] not in failed:
            self._note("assistant", payload.message)
        elif isinstance(payload, llm.ToolResult):
            self._note("toolResult", payload.message)
        elif isinstance(payload, llm.Compaction) and payload.summary:
            self.items.clear()
            self._note("summary", {"role": "summary", "summary": payload.summary})
        self.on_emit(payload)

    async def take_steering(self, step: int) -> Sequence[str]:
        self.steps.append(step)
        taken, self.steering = self.steering, []
        for text in taken:
            self._said(text)
        return taken

    async def history(self) -> Sequence[HistoryMessage]:
        # As it comes from the stream: through its JSON.
        return msgspec.json.decode(msgspec.json.encode(self.items), type=list[HistoryMessage])

    async def call_tool(
        self, call: ToolCall, perform: Any = None, on_output: OnOutput | None = None
    ) -> ToolAnswer:
        announced = [
            part["id"]
            for event in self.of(llm.Assistant)
            for part in event.message["content"]
            if part["type"] == "toolCall"
        ]
        assert call.id in announced, "the call was not announced"
        recorded = [e for e in self.of(llm.ToolResult) if e.tool_call_id == call.id]
        if recorded:
            text = recorded[0].message["content"][0]["text"]
            return ToolAnswer(text=text, is_error=recorded[0].is_error)
        self.performed.append(call)

        async def show(piece: str) -> None:
            if on_output is not None:
                await on_output(piece)

        answer = await (perform(call, show) if perform else self.tool(call))
        answer = msgspec.structs.replace(answer, text=answer.text[-TAIL_BYTES:])
        message = {
            "role": "toolResult",
            "toolCallId": call.id,
            "toolName": call.name,
            "content": [{"type": "text", "text": answer.text}],
            "details": answer.details,
            "isError": answer.is_error,
            "timestamp": 1,
        }
        await self.emit(
            llm.ToolResult(
                tool_call_id=call.id,
                tool_name=call.name,
                is_error=answer.is_error,
                turn_index=call.turn_index,
                message=message,
            )
        )
        return answer

    async def run_command(self, command: str, on_output: OnOutput) -> Any:
        raise AssertionError("tools go through call_tool")

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def chunks(self, kind: str) -> str:
        return "".join(e.delta or "" for e in self.of(llm.Chunk) if e.kind == kind)

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

    def _said(self, text: str) -> EntryId:
        message = {
            "role": "user",
            "content": [{"type": "text", "text": text}],
            "timestamp": 1000 + len(self.items),
        }
        return self._note("user", message)

    def _note(self, role: Any, message: dict[str, Any]) -> EntryId:
        entry_id = EntryId(f"{len(self.items) + 1}-0")
        self.items.append(HistoryMessage(entry_id=entry_id, role=role, message=message))
        return entry_id


async def until(condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
    async with asyncio.timeout(within_seconds):
        while not condition():
            await asyncio.sleep(0.01)
