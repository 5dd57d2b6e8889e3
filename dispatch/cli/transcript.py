"""A thread's entries as a person reads them: who said what, as it comes.

Chunks are shown at once; the `pi.assistant` that replaces them adds only what they had not
shown, so a late reader, to whom the chunks are gone, reads the same text. Tool calls and their
output likewise. Signals are dim remarks. Nothing here does I/O.
"""

from collections.abc import Mapping
from functools import singledispatchmethod
from typing import Any

import msgspec

from dispatch.cli import asking, narration
from dispatch.cli.output import Look, plain
from dispatch.cli.turns import Turns
from dispatch.payloads import Payload
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant, Chunk, Compaction, ToolResult
from dispatch.payloads.signals import PermissionRequested, Signal


class Piece(msgspec.Struct, frozen=True):
    """Text to print as it is, and how it looks."""

    text: str
    look: Look = "plain"


class Transcript:
    """Renders entries one by one.

    Args: handles: agent id → handle, for names. thread: how commands name the thread.
    """

    def __init__(
        self, turns: Turns, handles: Mapping[str, str], *, thread: str = "THREAD"
    ) -> None:
        self._turns = turns
        self._thread = thread
        self._handles = handles
        self._pieces: list[Piece] = []
        self._is_mid_line = False
        self._speaking = ""
        self._shown: dict[tuple[str, int], str] = {}
        self._announced: set[str] = set()
        self._outputs: dict[str, str] = {}

    def show(self, payload: Payload) -> list[Piece]:
        """Return what one more entry adds to the page."""
        self._render(payload)
        pieces, self._pieces = self._pieces, []
        return pieces

    def end(self) -> list[Piece]:
        """Return what closes the page."""
        self._end_line()
        pieces, self._pieces = self._pieces, []
        return pieces

    @singledispatchmethod
    def _render(self, _payload: object) -> None:
        """Show nothing of what this version does not know."""

    @_render.register
    def _chat(self, payload: Chat) -> None:
        name = payload.by.name or self._handles.get(payload.by.id) or payload.by.kind
        self._end_line()
        if payload.repeats is not None:
            # The answer itself stands above.
            names = ", ".join(f"@{handle}" for handle in payload.mentions)
            self._remark(f"· @{name} asks {names}")
            return
        self._put(f"{name}: ", "speaker")
        self._put(payload.text)
        self._end_line()

    @_render.register
    def _chunk(self, payload: Chunk) -> None:
        delta = payload.delta or ""
        match payload.kind:
            case "toolCall":
                self._announce(payload.tool_call_id or "", payload.tool_name, payload.arguments)
            case "toolOutput":
                self._output(payload.tool_call_id or "", delta, replace=payload.replace)
            case "text" | "thinking":
                place = (payload.message_id or "", payload.content_index or 0)
                self._shown[place] = self._shown.get(place, "") + delta
                self._say(place, delta, payload.kind)

    @_render.register
    def _assistant(self, payload: Assistant) -> None:
        for index, block in enumerate(_blocks(payload.message)):
            kind = block.get("type")
            if kind in {"text", "thinking"}:
                self._finish_text((payload.message_id, index), str(block.get(kind, "")), kind)
            elif kind == "toolCall":
                call_id, name = str(block.get("id", "")), str(block.get("name", ""))
                self._announce(call_id, name, block.get("arguments"))
        self._end_line()
        if payload.message.get("stopReason") in {"error", "aborted"}:
            self._remark(f"✗ {payload.message.get('errorMessage') or 'aborted'}", "error")
        self._shown = {
            at: text for at, text in self._shown.items() if at[0] != payload.message_id
        }

    @_render.register
    def _tool_result(self, payload: ToolResult) -> None:
        text = "".join(str(block.get("text", "")) for block in _blocks(payload.message))
        shown = self._outputs.pop(payload.tool_call_id, "")
        if text.startswith(shown):
            self._output(payload.tool_call_id, text[len(shown) :], replace=False)
        self._outputs.pop(payload.tool_call_id, None)
        line = narration.tool_result(payload)
        self._remark(line, "error" if payload.is_error else "good")

    @_render.register
    def _compaction(self, payload: Compaction) -> None:
        self._remark(narration.compaction(payload))

    @_render.register
    def _signal(self, payload: Signal) -> None:
        told = narration.signal(payload, self._name_of_agent)
        if told is not None:
            self._remark(told.text, told.look)

    @_render.register
    def _permission_requested(self, payload: PermissionRequested) -> None:
        told = asking.request(
            payload,
            who=self._name_of_agent(payload.agent_id),
            call=narration.tool_call(payload.tool_name, payload.arguments),
            thread=self._thread,
        )
        self._remark(told, "tool")

    def _say(self, place: tuple[str, int], delta: str, kind: str) -> None:
        if not delta:
            return
        if self._speaking != f"{place[0]} {kind}":
            self._end_line()
            self._put(f"{self._author(place[0])}: ", "speaker")
            self._speaking = f"{place[0]} {kind}"
        self._put(delta, "dim" if kind == "thinking" else "plain")

    def _finish_text(self, place: tuple[str, int], text: str, kind: str) -> None:
        shown = self._shown.get(place, "")
        if not text.startswith(shown):
            # What streamed is not what was meant in the end: say it again, whole.
            self._end_line()
            shown = ""
        self._say(place, text[len(shown) :], kind)

    def _announce(
        self, call_id: str, name: str | None, arguments: dict[str, Any] | None
    ) -> None:
        if call_id in self._announced:
            return
        self._announced.add(call_id)
        self._remark(narration.tool_call(name or "tool", arguments or {}), "tool")

    def _output(self, call_id: str, delta: str, *, replace: bool) -> None:
        shown = self._outputs.get(call_id, "")
        if replace:
            self._outputs[call_id] = delta
            delta = _beyond(shown, delta)
        else:
            self._outputs[call_id] = shown + delta
        if not delta:
            return
        if self._speaking != f"output {call_id}":
            self._end_line()
            self._speaking = f"output {call_id}"
        self._put(delta, "dim")

    def _author(self, message_id: str) -> str:
        """Name who speaks: message ids of our runners begin with the dispatch."""
        agent_id = self._turns.agent_of(message_id.partition(":")[0])
        if agent_id is None and len(self._turns.open) == 1:
            agent_id = self._turns.agent_of(self._turns.open[0])
        return self._name_of_agent(agent_id)

    def _name_of_agent(self, agent_id: str | None) -> str:
        handle = self._handles.get(agent_id or "")
        return f"@{handle}" if handle else "agent"

    def _remark(self, text: str, look: Look = "dim") -> None:
        self._end_line()
        self._put(text, look)
        self._end_line()

    def _put(self, text: str, look: Look = "plain") -> None:
        clean = plain(text)
        if clean:
            self._pieces.append(Piece(clean, look))
            self._is_mid_line = not clean.endswith("\n")

    def _end_line(self) -> None:
        self._speaking = ""
        if self._is_mid_line:
            self._pieces.append(Piece("\n"))
            self._is_mid_line = False


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a message's content as blocks; pi also allows bare text."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    try:
        return msgspec.convert(content, list[dict[str, Any]])
    except msgspec.ValidationError:
        return []


def _beyond(shown: str, latest: str) -> str:
    """Return what `latest` has after the end of `shown`, whose head it dropped."""
    tail = shown[-200:]
    found = latest.rfind(tail) if tail else -1
    return latest if found < 0 else latest[found + len(tail) :]
