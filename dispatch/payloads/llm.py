"""What an agent's model and tools produced, in pi's shapes (`message` is pi's object verbatim).

`pi.chunk` is disposable: once the `pi.assistant` of its `messageId` stands, which carries the
full text, the chunks are deleted from the stream.
"""

from typing import Any, Literal

import msgspec

from dispatch.payloads.usage import TokenUsage

ChunkKind = Literal["text", "thinking", "toolCall", "toolOutput"]


class Chunk(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    omit_defaults=True,
    kw_only=True,
    tag_field="type",
    tag="pi.chunk",
):
    """A piece of a message or of a tool's output while it is being made."""

    kind: ChunkKind
    message_id: str | None = None
    content_index: int | None = None
    delta: str | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    arguments: dict[str, Any] | None = None
    replace: bool = False
    """True: `delta` replaces what this tool call showed so far (its head was dropped)."""


class Assistant(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    omit_defaults=True,
    kw_only=True,
    tag_field="type",
    tag="pi.assistant",
):
    """A finished message of the model; replaces the chunks with the same `messageId`."""

    message_id: str
    turn_index: int
    message: dict[str, Any]
    entry_id: str | None = None
    parent_id: str | None = None


class ToolResult(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    omit_defaults=True,
    kw_only=True,
    tag_field="type",
    tag="pi.tool_result",
):
    """What a tool answered."""

    tool_call_id: str
    tool_name: str
    is_error: bool
    turn_index: int
    message: dict[str, Any]
    duration_ms: int | None = None
    usage: TokenUsage | None = None
    entry_id: str | None = None
    parent_id: str | None = None
    dispatch_id: str | None = None
    """Set when the record itself answers, for a run that no longer can."""


class Compaction(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    omit_defaults=True,
    kw_only=True,
    tag_field="type",
    tag="pi.compaction",
):
    """The model's context was summarised."""

    reason: str
    aborted: bool = False
    will_retry: bool = False
    error_message: str | None = None
    summary: str | None = None
    first_kept_entry_id: str | None = None
    """The thread's entry from which on messages were left as they are; None: none was."""
    tokens_before: int | None = None
    usage: TokenUsage | None = None
