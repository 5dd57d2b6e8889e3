"""What a message in pi's shape holds: its text, and the tool calls an assistant made."""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

UNFINISHED: Final = frozenset({"error", "aborted"})
"""Stop reasons of messages that are shown to people and never to a model."""


class OpenCall(msgspec.Struct, frozen=True):
    """A tool call that an agent announced."""

    id: str
    name: str


def tool_calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tool calls in an assistant's message: `id`, `name`, `arguments`."""
    return [part for part in _parts(message) if part.get("type") == "toolCall"]


def is_finished(message: Mapping[str, Any]) -> bool:
    """Tell whether a message came to its end; a model call that failed leaves one too."""
    return message.get("stopReason") not in UNFINISHED


def open_calls(message: Mapping[str, Any]) -> tuple[OpenCall, ...]:
    """Return the calls that will have results; none of a message that was never finished."""
    if not is_finished(message):
        return ()
    return tuple(
        OpenCall(str(call["id"]), str(call.get("name") or ""))
        for call in tool_calls(message)
        if call.get("id")
    )


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text without its other parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in _parts(message) if part.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if not isinstance(content, list):
        return []
    found = cast("list[object]", content)
    return [cast("dict[str, Any]", part) for part in found if isinstance(part, dict)]
