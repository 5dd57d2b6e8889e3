"""The conversation as one agent's model must see it, made of a thread's stream. Pure.

A turn stands in one piece: what was said while it ran comes after it. Left out is what was
taken back, what was never finished, and what waits for its own turn; no tool call of a turn
that is over lacks its result.

Not guaranteed: sense in a stream that lost durable entries.
"""

from collections.abc import Iterable, Mapping
from functools import singledispatchmethod
from typing import Any, Final, Literal

import msgspec

from dispatch import payloads
from dispatch.errors import Invalid
from dispatch.ids import AgentId, EntryId, milliseconds_of
from dispatch.models.edits import FoldEntry
from dispatch.payloads.chat import Chat
from dispatch.payloads.content import is_finished, text_of, tool_calls
from dispatch.payloads.llm import Assistant, Compaction, ToolResult
from dispatch.payloads.signals import (
    Cancelled,
    Checkpoint,
    Completed,
    Failed,
    Queued,
    Released,
    RolledBack,
    RunLost,
    Started,
    Steered,
)

Role = Literal["user", "assistant", "toolResult", "summary"]
INTERRUPTED: Final = "Interrupted: nobody knows whether it was done, or how it ended."


class HistoryMessage(msgspec.Struct, frozen=True, rename="camel"):
    """One message, as pi shapes it (`message`); `entry_id` is the entry that holds it."""

    entry_id: EntryId
    role: Role
    message: dict[str, Any]
    own: bool = True
    """False: a person said it, or another agent."""


def history(
    entries: Iterable[FoldEntry],
    *,
    agent_id: AgentId,
    entry_id: EntryId,
    handles: Mapping[str, str],
) -> list[HistoryMessage]:
    """Return what an agent's model reads to take (or to go on with) the turn of an entry.

    Args: entries: the whole stream, in order. entry_id: the chat entry that asks for the turn.
        handles: of the house's agents, by id.
    """
    reader = _Reader(str(agent_id), entry_id, handles)
    for entry in entries:
        reader.read(entry)
    return reader.messages()


class _Turn:
    """One dispatch of the agent: the entry that asked and all that came of it."""

    def __init__(self, asked: list[HistoryMessage]) -> None:
        self.messages = asked
        self.kept = len(asked)
        """How many messages the last checkpoint covers."""
        self.is_over = False

    def lose_attempt(self) -> None:
        """Forget what the next attempt will write again.

        Results stay with their calls, and so does what was said to steer the turn: it was
        delivered, and nobody will say it again.
        """
        kept, late = self.messages[: self.kept], self.messages[self.kept :]
        calls = {call["id"] for each in kept for call in tool_calls(each.message)}
        self.messages = kept + [
            each
            for each in late
            if each.role == "user" or each.message.get("toolCallId") in calls
        ]

    def paired(self) -> list[HistoryMessage]:
        """Return the messages, each tool call followed by its result."""
        results = {
            each.message["toolCallId"]: each
            for each in self.messages
            if each.role == "toolResult"
        }
        told: list[HistoryMessage] = []
        for each in self.messages:
            if each.role == "toolResult":
                continue
            told.append(each)
            if each.role != "assistant":
                continue
            for call in tool_calls(each.message):
                if call["id"] in results:
                    told.append(results[call["id"]])
                elif self.is_over:
                    told.append(_interrupted(each.entry_id, call))
        return told


class _Reader:
    def __init__(self, lane: str, entry_id: EntryId, handles: Mapping[str, str]) -> None:
        self._lane = lane
        self._entry_id = entry_id
        self._handles = handles
        self._chats: dict[str, HistoryMessage] = {}
        self._lane_of_run: dict[str, str] = {}
        self._dispatch_of_run: dict[str, str] = {}
        self._asked_by: dict[str, str] = {}
        """Dispatches of the lane that did not start yet, by the entry that asked."""
        self._turns: dict[str, _Turn] = {}
        self._parts: list[_Turn | HistoryMessage] = []
        self._deferred: list[HistoryMessage] = []
        self._open: _Turn | None = None

    def read(self, entry: FoldEntry) -> None:
        try:
            payload = entry.payload
        except Invalid:
            return
        self._note(payload, entry)

    def messages(self) -> list[HistoryMessage]:
        told: list[HistoryMessage] = []
        waiting = set(self._asked_by.values()) - {self._entry_id}
        for part in self._parts:
            if isinstance(part, _Turn):
                told += part.paired()
            elif part.entry_id < self._entry_id and part.entry_id not in waiting:
                told.append(part)
        for index in range(len(told) - 1, -1, -1):
            if told[index].role == "summary":
                return _compacted(told, index)
        return told

    # --- what each entry means ----------------------------------------------------------------

    @singledispatchmethod
    def _note(self, payload: payloads.Payload, _entry: FoldEntry) -> None:
        """Most entries are no part of the conversation."""

    @_note.register
    def _chat(self, payload: Chat, entry: FoldEntry) -> None:
        is_agents = payload.by.kind == "agent" and payload.delegated_by is None
        if is_agents and payload.by.id == self._lane:
            return
        name = f"@{payload.by.name}: " if is_agents else ""
        message = _user(entry.id, f"{name}{payload.text}")
        self._chats[entry.id] = message
        if payload.repeats is not None:
            # The same words, said to everybody before: they are told once, where they ask.
            self._forget(payload.repeats)
        self._place(message)

    @_note.register
    def _queued(self, payload: Queued, _entry: FoldEntry) -> None:
        if payload.agent_id == self._lane:
            self._asked_by[payload.dispatch_id] = payload.entry_id

    @_note.register
    def _started(self, payload: Started, _entry: FoldEntry) -> None:
        self._lane_of_run[payload.run_id] = payload.agent_id
        if payload.agent_id != self._lane:
            return
        dispatch_id = payload.dispatch_id
        self._dispatch_of_run[payload.run_id] = dispatch_id
        asked = self._asked_by.pop(dispatch_id, None)
        if dispatch_id not in self._turns:
            self._turns[dispatch_id] = _Turn(self._taken_from_its_place(asked))
            self._parts.append(self._turns[dispatch_id])
        self._open = self._turns[dispatch_id]

    @_note.register
    def _assistant(self, payload: Assistant, entry: FoldEntry) -> None:
        lane, turn = self._written_by(entry)
        if not is_finished(payload.message):
            return
        if turn is not None:
            turn.messages.append(HistoryMessage(entry.id, "assistant", payload.message))
        elif lane is not None and text_of(payload.message):
            said = f"@{self._handles.get(lane, 'agent')}: {text_of(payload.message)}"
            self._place(_user(entry.id, said))

    @_note.register
    def _tool_result(self, payload: ToolResult, entry: FoldEntry) -> None:
        _, turn = self._written_by(entry)
        if turn is None and entry.writer is None:
            turn = self._calling(payload.tool_call_id)
        if turn is not None:
            turn.messages.append(HistoryMessage(entry.id, "toolResult", payload.message))

    @_note.register
    def _compaction(self, payload: Compaction, entry: FoldEntry) -> None:
        _, turn = self._written_by(entry)
        if turn is None or payload.aborted or payload.summary is None:
            return
        message = {
            "role": "summary",
            "summary": payload.summary,
            "firstKeptEntryId": payload.first_kept_entry_id,
            "tokensBefore": payload.tokens_before,
        }
        turn.messages.append(HistoryMessage(entry.id, "summary", message))

    @_note.register
    def _checkpoint(self, payload: Checkpoint, _entry: FoldEntry) -> None:
        turn = self._turns.get(payload.dispatch_id)
        if turn is not None:
            turn.kept = len(turn.messages)

    @_note.register
    def _steered(self, payload: Steered, _entry: FoldEntry) -> None:
        turn = self._turns.get(payload.into)
        if turn is not None:
            self._asked_by.pop(payload.dispatch_id, None)
            turn.messages += self._taken_from_its_place(payload.entry_id)

    @_note.register(RunLost | Released)
    def _left(self, payload: RunLost | Released, _entry: FoldEntry) -> None:
        turn = self._turns.get(payload.dispatch_id)
        if turn is not None:
            turn.lose_attempt()

    @_note.register(Completed | Failed | Cancelled)
    def _ended(self, payload: Completed | Failed | Cancelled, _entry: FoldEntry) -> None:
        self._asked_by.pop(payload.dispatch_id, None)
        turn = self._turns.get(payload.dispatch_id)
        if turn is None:
            return
        turn.is_over = True
        if turn is self._open:
            self._open = None
            self._parts += self._deferred
            self._deferred = []

    @_note.register
    def _rolled_back(self, payload: RolledBack, _entry: FoldEntry) -> None:
        turn = self._turns.get(payload.dispatch_id)
        if turn is not None:
            self._parts.remove(turn)

    # --- where it stands ----------------------------------------------------------------------

    def _written_by(self, entry: FoldEntry) -> tuple[str | None, _Turn | None]:
        """Return the lane whose run wrote this, and the turn, if it is one of ours."""
        run_id = entry.writer.rpartition(":")[0] if entry.writer is not None else ""
        turn = self._turns.get(self._dispatch_of_run.get(run_id, ""))
        return self._lane_of_run.get(run_id), turn

    def _calling(self, call_id: str) -> _Turn | None:
        for turn in reversed(self._turns.values()):
            if any(
                call["id"] == call_id for m in turn.messages for call in tool_calls(m.message)
            ):
                return turn
        return None

    def _place(self, message: HistoryMessage) -> None:
        (self._parts if self._open is None else self._deferred).append(message)

    def _forget(self, entry_id: str) -> None:
        self._deferred = [each for each in self._deferred if each.entry_id != entry_id]
        self._parts = [
            each for each in self._parts if isinstance(each, _Turn) or each.entry_id != entry_id
        ]

    def _taken_from_its_place(self, entry_id: str | None) -> list[HistoryMessage]:
        message = self._chats.get(entry_id or "")
        if message is None:
            return []
        for places in (self._parts, self._deferred):
            if message in places:
                places.remove(message)
        return [message]


def _compacted(told: list[HistoryMessage], index: int) -> list[HistoryMessage]:
    """Return the last summary, what it left as it was, and all that came after it."""
    kept_from = told[index].message["firstKeptEntryId"]
    places = [place for place in range(index) if told[place].entry_id == kept_from]
    kept = told[places[0] : index] if places else []
    return [told[index], *(each for each in kept if each.role != "summary"), *told[index + 1 :]]


def _user(entry_id: EntryId, text: str) -> HistoryMessage:
    message = {
        "role": "user",
        "content": [{"type": "text", "text": text}],
        "timestamp": milliseconds_of(entry_id),
    }
    return HistoryMessage(entry_id, "user", message, own=False)


def _interrupted(entry_id: EntryId, call: Mapping[str, Any]) -> HistoryMessage:
    message = {
        "role": "toolResult",
        "toolCallId": call["id"],
        "toolName": call.get("name", ""),
        "content": [{"type": "text", "text": INTERRUPTED}],
        "isError": True,
        "timestamp": milliseconds_of(entry_id),
    }
    return HistoryMessage(entry_id, "toolResult", message)
