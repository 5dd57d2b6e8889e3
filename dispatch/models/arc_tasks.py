"""Tasks of the ARC protocol: sub-job threads, told from their streams. Pure.

A task has one turn: the one its first message asks for. Its status is that turn's:

    SUBMITTED ─▶ WORKING ⇄ INPUT_REQUIRED ─▶ COMPLETED | FAILED | CANCELED
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from dispatch import payloads
from dispatch.errors import Invalid
from dispatch.ids import AgentId, EntryId, HouseId, MemberId, ThreadId, milliseconds_of
from dispatch.models import arc, endings
from dispatch.payloads import content
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    Completed,
    Failed,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
    Queued,
    Started,
    Steered,
)

Priority = Literal["LOW", "NORMAL", "HIGH", "URGENT"]
Status = Literal["SUBMITTED", "WORKING", "INPUT_REQUIRED", "COMPLETED", "FAILED", "CANCELED"]
EventName = Literal[
    "TASK_CREATED",
    "TASK_STARTED",
    "TASK_PAUSED",
    "TASK_RESUMED",
    "TASK_COMPLETED",
    "TASK_FAILED",
    "TASK_CANCELED",
    "NEW_MESSAGE",
    "NEW_ARTIFACT",
    "STATUS_CHANGE",
]
EVERYTHING: Final = "STATUS_CHANGE"
"""Who asks for this is told of every event; none is called so."""
FINAL: Final[frozenset[Status]] = frozenset({"COMPLETED", "FAILED", "CANCELED"})


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task's row: whose it is. Its id is its thread's."""

    id: ThreadId
    house_id: HouseId
    member_id: MemberId
    agent_id: AgentId
    handle: str
    """Its agent's, when it was made."""
    priority: Priority = "NORMAL"
    """As its caller said; shown, and otherwise without effect."""
    metadata: dict[str, Any] = {}
    trace_id: str | None = None
    key: str | None = None
    """The Idempotency-Key it was made under, if any; one task of a member's each."""
    created_at: datetime | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to a task."""

    entry_id: EntryId
    name: EventName
    status: Status
    message: str
    """For people."""
    data: dict[str, Any] = {}

    @property
    def at(self) -> str:
        """Return when, as the protocol writes times."""
        return arc.time_of(milliseconds_of(self.entry_id))


class StreamEntry(msgspec.Struct, frozen=True):
    """What is read of an entry."""

    id: EntryId
    raw: bytes
    writer: str | None
    """The run that wrote it, and its count."""


class Story:
    """A task as its stream tells it."""

    def __init__(self, task: Task) -> None:
        self.status: Status = "SUBMITTED"
        self.messages: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.updated_at: str | None = None
        self.ended_at: str | None = None
        self.reason: str | None = None
        self.questions: dict[str, PermissionRequested] = {}
        """What the turn waits for, by id, the oldest first."""
        self._task = task
        self._dispatch_id = ""
        self._runs: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more will come of it."""
        return self.status in FINAL

    def hear_all(self, entries: Iterable[StreamEntry]) -> list[Event]:
        """Take in entries in their order; return what happened."""
        return [event for entry in entries for event in self.hear(entry)]

    def hear(self, entry: StreamEntry) -> list[Event]:
        """Take in one more entry; return what happened by it: one thing at most."""
        if self.is_over:
            return []
        try:
            payload = payloads.decode(entry.raw)
        except Invalid:
            return []
        event = (
            self._spoken(entry, payload)
            or self._begun(entry, payload)
            or self._went_on(entry, payload)
        )
        if event is not None:
            self.updated_at = event.at
        return [event] if event is not None else []

    def _spoken(self, entry: StreamEntry, payload: payloads.Payload) -> Event | None:
        at = arc.time_of(milliseconds_of(entry.id))
        match payload:
            case Chat() if payload.by.kind != "agent":
                said = arc.message("user", payload.text, at=at)
                said["parts"] += payload.parts
                self.messages.append(said)
            case Assistant(message=message) if self._is_mine(entry):
                text = content.text_of(message)
                if not text or not content.is_finished(message):
                    return None
                told = arc.message("agent", text, at=at) | {"agentId": self._task.handle}
                self.messages.append(told)
                return self._event(entry, "NEW_MESSAGE", text, {"newMessage": told})
            case ToolResult(message=message) if self._is_mine(entry):
                artifact = _artifact(entry, payload, at)
                self.artifacts.append(artifact)
                return self._event(
                    entry, "NEW_ARTIFACT", payload.tool_name, {"artifact": artifact}
                )
            case _:
                pass
        return None

    def _begun(self, entry: StreamEntry, payload: payloads.Payload) -> Event | None:
        match payload:
            case Queued() if not self._dispatch_id:
                if payload.agent_id == str(self._task.agent_id):
                    self._dispatch_id = payload.dispatch_id
                    return self._event(entry, "TASK_CREATED", "The task was submitted.")
            case Started(dispatch_id=self._dispatch_id, run_id=run_id):
                self._runs.add(run_id)
                if self.status == "SUBMITTED":
                    self.status = "WORKING"
                    return self._event(entry, "TASK_STARTED", "The task has begun.")
            case Steered(dispatch_id=self._dispatch_id, into=into):
                self._dispatch_id = into
            case CancelRequested(dispatch_id=self._dispatch_id, message=message):
                self.reason = message
            case _:
                pass
        return None

    def _went_on(self, entry: StreamEntry, payload: payloads.Payload) -> Event | None:
        match payload:
            case PermissionRequested(dispatch_id=self._dispatch_id):
                return self._asked(entry, payload)
            case PermissionGranted() | PermissionDenied() | PermissionExpired():
                return self._answered(entry, payload)
            case Completed() | Failed() | Cancelled():
                return self._ended(entry, payload)
            case _:
                return None

    def _is_mine(self, entry: StreamEntry) -> bool:
        return (entry.writer or "").partition(":")[0] in self._runs

    def _asked(self, entry: StreamEntry, asked: PermissionRequested) -> Event | None:
        self.questions[asked.permission_id] = asked
        question = {
            "permissionId": asked.permission_id,
            "kind": asked.kind,
            "toolName": asked.tool_name,
            "arguments": asked.arguments,
            "deadline": arc.time_of(asked.deadline),
        }
        part = {"type": "DataPart", "mimeType": "application/json", "content": question}
        self.messages.append(
            {
                "role": "agent",
                "parts": [part],
                "timestamp": arc.time_of(milliseconds_of(entry.id)),
                "agentId": self._task.handle,
            }
        )
        if self.status == "INPUT_REQUIRED":
            return None
        self.status = "INPUT_REQUIRED"
        what = f"The task waits for an answer: {asked.tool_name} ({asked.kind})."
        return self._event(entry, "TASK_PAUSED", what, {"inputRequired": question})

    def _answered(
        self,
        entry: StreamEntry,
        answer: PermissionGranted | PermissionDenied | PermissionExpired,
    ) -> Event | None:
        if self.questions.pop(answer.permission_id, None) is None:
            return None
        if isinstance(answer, PermissionGranted) and answer.output is not None:
            at = arc.time_of(milliseconds_of(entry.id))
            self.messages.append(arc.message("user", answer.output, at=at))
        if self.questions:
            return None
        self.status = "WORKING"
        return self._event(entry, "TASK_RESUMED", "The task goes on.")

    def _ended(self, entry: StreamEntry, end: Completed | Failed | Cancelled) -> Event | None:
        if end.dispatch_id != self._dispatch_id:
            return None
        why, _ = endings.explain(end)
        self.questions.clear()
        self.ended_at = arc.time_of(milliseconds_of(entry.id))
        match end:
            case Completed():
                self.status, self.reason = "COMPLETED", None
                return self._event(entry, "TASK_COMPLETED", why)
            case Failed():
                self.status, self.reason = "FAILED", end.message or why
                return self._event(entry, "TASK_FAILED", self.reason, {"reason": end.reason})
            case Cancelled():
                self.status, self.reason = "CANCELED", end.message or self.reason or why
                return self._event(entry, "TASK_CANCELED", self.reason, {"reason": end.reason})

    def _event(
        self,
        entry: StreamEntry,
        name: EventName,
        message: str,
        data: dict[str, Any] | None = None,
    ) -> Event:
        return Event(
            entry_id=entry.id, name=name, status=self.status, message=message, data=data or {}
        )


def shown(task: Task, story: Story, *, messages: int = 0, artifacts: int = 0) -> dict[str, Any]:
    """Return a task as the protocol shows it.

    Args: messages, artifacts: how many of each at most, the last ones; 0: none.
    """
    found: dict[str, Any] = {
        "taskId": str(task.id),
        "status": story.status,
        "createdAt": arc.time(task.created_at) if task.created_at else None,
        "updatedAt": story.updated_at,
        "metadata": {**task.metadata, "priority": task.priority, "threadId": str(task.id)},
    }
    match story.status:
        case "COMPLETED" | "FAILED":
            found["completedAt"] = story.ended_at
        case "CANCELED":
            found["canceledAt"] = story.ended_at
        case _:
            pass
    if messages:
        found["messages"] = story.messages[-messages:]
    if artifacts:
        found["artifacts"] = story.artifacts[-artifacts:]
    found["reason"] = story.reason
    return {name: value for name, value in found.items() if value is not None}


def _artifact(entry: StreamEntry, result: ToolResult, at: str) -> dict[str, Any]:
    part = {"type": "TextPart", "content": content.text_of(result.message)}
    return {
        "artifactId": entry.id,
        "name": result.tool_name,
        "parts": [part],
        "createdAt": at,
        "metadata": {"toolCallId": result.tool_call_id, "isError": result.is_error},
    }
