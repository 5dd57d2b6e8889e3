"""One turn of an ARC chat as its caller hears it: words as they come, then how it ended. Pure.

Not guaranteed: that the words add up to the last message. A turn that is tried again says its
words again, and chunks that were gone before they were read are missing; the `message` at the
end is what counts.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from dispatch import clock, payloads
from dispatch.errors import Invalid
from dispatch.ids import DispatchId, EntryId, ThreadId
from dispatch.models import arc, endings
from dispatch.models.arc import Code
from dispatch.models.houses import Caller
from dispatch.payloads import content
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
    Resumed,
    Steered,
    StreamRollback,
    Waiting,
)

_UNREACHABLE: Final = frozenset(
    {"orphaned", "interrupted", "attempts_exhausted", "never_started", "stream_rollback"}
)
_TIMEOUTS: Final = frozenset({"no_progress", "run_timeout"})


class ChatTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A message that stands on its chat's thread, and the turn that will answer it."""

    who: Caller
    chat_id: str
    thread_id: ThreadId
    dispatch_id: DispatchId | None
    """None: the message was only written down (`whenBusy: write`); nobody answers it."""
    entry_id: EntryId
    agent: str
    """The answering agent's handle."""
    chat: dict[str, Any]
    """The chat as the protocol shows it, without a message."""

    @property
    def read_on(self) -> str:
        """Return how the turn can be read without the chat."""
        return (
            f"Read it with `arbe thread entries read {self.thread_id}` or from "
            f"GET /v1/threads/{self.thread_id}/stream."
        )


class Content(msgspec.Struct, frozen=True):
    """The agent said something more."""

    delta: str


class Done(msgspec.Struct, frozen=True):
    """The turn is over, or waits for somebody (`status` is PAUSED); `message` is its last."""

    chat: dict[str, Any]


class Error(msgspec.Struct, frozen=True):
    """The turn failed, was cancelled, or goes on without us."""

    code: int
    message: str
    details: dict[str, Any] = {}


ChatEvent: TypeAlias = Content | Done | Error


class _Frame(msgspec.Struct):
    payload: msgspec.Raw


_frames: Final = msgspec.json.Decoder(_Frame)


class Hearing:
    """What was heard of a turn so far."""

    def __init__(self, turn: ChatTurn) -> None:
        self.is_over = False
        self._turn = turn
        self._mine = turn.dispatch_id or ""
        self._shown: dict[str, str] = {}
        """What was told of each message, by its id."""
        self._block: int | None = None
        self._last = ""
        self._questions: dict[str, PermissionRequested] = {}
        self._waits = False

    @property
    def place(self) -> dict[str, Any]:
        """Return where the turn can be found."""
        return {
            "chatId": self._turn.chat_id,
            "threadId": str(self._turn.thread_id),
            "dispatchId": self._turn.dispatch_id,
        }

    def hear(self, frames: Sequence[bytes], *, up_to_date: bool) -> list[ChatEvent]:
        """Take in wire entries; return what the caller is told of them.

        Args: up_to_date: nothing more stands on the stream now.
        """
        told: list[ChatEvent] = []
        for frame in frames:
            if self._mine.encode() not in frame and b"stream_rollback" not in frame:
                continue
            try:
                payload = payloads.decode(bytes(_frames.decode(frame).payload))
            except (Invalid, msgspec.DecodeError):
                continue
            told += self._hear(payload)
            if self.is_over:
                return told
        if self._waits and up_to_date:
            told.append(self._paused())
        return told

    def _hear(self, payload: payloads.Payload) -> list[ChatEvent]:
        match payload:
            case Chunk(kind="text", message_id=str(message_id), delta=str(delta)):
                return self._piece(message_id, delta, payload.content_index)
            case Assistant():
                return self._message(payload)
            case PermissionRequested(dispatch_id=self._mine):
                self._questions[payload.permission_id] = payload
            case PermissionGranted() | PermissionDenied() | PermissionExpired():
                self._questions.pop(payload.permission_id, None)
            case Waiting(dispatch_id=self._mine):
                self._waits = True
            case Resumed(dispatch_id=self._mine):
                self._waits = False
            case Steered(dispatch_id=self._mine, into=into):
                self._mine = into
            case _:
                return self._ending(payload)
        return []

    def _ending(self, payload: payloads.Payload) -> list[ChatEvent]:
        match payload:
            case Completed(dispatch_id=self._mine):
                return [self.done("ACTIVE")]
            case Failed(dispatch_id=self._mine):
                return [self._failed(payload)]
            case Cancelled(dispatch_id=self._mine):
                return [self._failed(payload)]
            case StreamRollback(kept=kept) if (kept or "") < self._turn.entry_id:
                lost = Failed(dispatch_id=self._mine, reason="stream_rollback")
                return [self._failed(lost)]
            case _:
                return []

    def _piece(self, message_id: str, delta: str, block: int | None) -> list[ChatEvent]:
        if message_id.partition(":")[0] != self._mine:
            return []
        before = self._shown.get(message_id)
        if before is None and self._last:
            # Words of another message than those told last.
            lead, self._shown[message_id] = "\n\n", delta
        else:
            lead = "\n" if before and block != self._block else ""
            self._shown[message_id] = (before or "") + lead + delta
        self._block = block
        return [Content(lead + delta)]

    def _message(self, payload: Assistant) -> list[ChatEvent]:
        """Tell what chunks did not: all of it, where there were none."""
        text = content.text_of(payload.message)
        is_mine = payload.message_id.partition(":")[0] == self._mine
        if not (is_mine and text and content.is_finished(payload.message)):
            return []
        shown = self._shown.get(payload.message_id, "")
        told: list[ChatEvent] = []
        if not shown:
            told = self._piece(payload.message_id, text, None)
        elif text != shown and text.startswith(shown):
            told = [Content(text[len(shown) :])]
        self._shown = {payload.message_id: text}
        self._last = text
        return told

    def done(self, status: str) -> Done:
        """Return the end of a turn that said what it had to."""
        self.is_over = True
        chat = self._turn.chat | {"status": status, "updatedAt": arc.time(clock.now())}
        if self._last:
            said = arc.message("agent", self._last, at=chat["updatedAt"])
            chat["message"] = said | {"agentId": self._turn.agent}
        return Done(chat)

    def over_time(self, seconds: float) -> ChatEvent:
        """Return what to say to a caller who waited long enough."""
        if self._questions:
            return self._paused()
        return self.goes_on(
            Code.CHAT_TIMEOUT, f"The turn had not ended after {seconds:g} s; it goes on."
        )

    def goes_on(self, code: Code, what: str) -> Error:
        """Return the end of listening to a turn that has not ended."""
        self.is_over = True
        return Error(code, f"{what} {self._turn.read_on}", self.place)

    def _paused(self) -> Done:
        asked = [
            f"{each.tool_name} ({each.kind}): `arbe permission grant {self._turn.thread_id} "
            f"{each.permission_id}`"
            for each in self._questions.values()
        ]
        self._last = "\n".join(["The turn waits for an answer.", *asked])
        return self.done("PAUSED")

    def _failed(self, end: Failed | Cancelled) -> Error:
        self.is_over = True
        why, next_step = endings.explain(end)
        message = f"{why} {end.message}" if end.message else f"{why} {next_step}"
        return Error(_code(end), message, self.place | {"reason": end.reason})


def _code(end: Failed | Cancelled) -> Code:
    if isinstance(end, Cancelled):
        return Code.TASK_CANCELED
    if end.reason in _UNREACHABLE:
        return Code.AGENT_UNREACHABLE
    return Code.AGENT_TIMEOUT if end.reason in _TIMEOUTS else Code.EXECUTION_FAILED
