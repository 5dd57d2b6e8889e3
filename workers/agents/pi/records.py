"""What pi writes, read tolerantly: what is not named here is skipped without being decoded.

Up to 0.83 each `message_update` carries the whole message so far; it is the skipping that keeps
a long answer from being decoded a thousand times.
"""

from typing import Any

import msgspec

from dispatch.payloads.usage import TokenUsage


class Delta(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of a message: `text_delta`, `thinking_delta`, `toolcall_end` and others."""

    type: str
    content_index: int = 0
    delta: str = ""
    tool_call: dict[str, Any] | None = None


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """One line: an answer to a command, or an event."""

    type: str
    id: Any = None
    success: bool | None = None
    error: Any = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    message: msgspec.Raw = msgspec.Raw(b"null")
    assistant_message_event: Delta | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    reason: str = ""
    aborted: bool = False
    will_retry: bool = False
    error_message: str | None = None
    attempt: int = 0
    max_attempts: int = 0
    delay_ms: float = 0
    method: str = ""


class State(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to `get_state`."""

    model: dict[str, Any] | None = None
    session_id: str = ""
    session_file: str | None = None
    is_streaming: bool = False
    pending_message_count: int = 0


class Accepted(msgspec.Struct, frozen=True):
    """The answer to `prompt`, since 0.99."""

    disposition: str = ""


HANDLED = Accepted("handled")
"""No run follows: it was a command to pi."""


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a compaction."""

    summary: str = ""
    first_kept_entry_id: str | None = None
    tokens_before: int | None = None
    usage: dict[str, Any] | None = None


_record: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_object: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


def decode(line: bytes) -> Record | None:
    """Read one line; None, when it is not an object this can make sense of."""
    try:
        return _record.decode(line)
    except msgspec.DecodeError:
        return None


def read_message(raw: msgspec.Raw) -> dict[str, Any]:
    """Read a message verbatim; empty when there is none."""
    try:
        return _object.decode(raw)
    except msgspec.DecodeError:
        return {}


def read_usage(found: Any) -> TokenUsage:
    """Read pi's usage object; what is missing or of a wrong kind counts as nothing."""
    try:
        return msgspec.convert(found, TokenUsage, strict=False)
    except msgspec.ValidationError:
        return TokenUsage()
