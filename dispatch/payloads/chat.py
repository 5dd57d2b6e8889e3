"""What people and bots say."""

from typing import Any, Literal

import msgspec


class Author(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Who said it: taken from the token or the run, never from a request's body."""

    kind: Literal["member", "agent", "service"]
    id: str
    name: str | None = None


class Delegator(msgspec.Struct, frozen=True, rename="camel"):
    """The tool call for which an entry is a task; its turn waits for what comes of it."""

    thread_id: str
    dispatch_id: str
    tool_call_id: str


class Chat(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    omit_defaults=True,
    tag_field="type",
    tag="chat",
):
    """One chat entry. `mentions` are agent handles without `@`, on top of those in the text."""

    by: Author
    text: str
    mentions: tuple[str, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()
    client_key: str | None = None
    hops: int = 0
    """Agents' answers, one after the other, that led here; 0: a person or service says it."""
    begun_by: str | None = None
    """The entry of a person or service with which those answers began."""
    repeats: str | None = None
    """The `pi.assistant` entry whose words these are: an answer that asks other agents."""
    trace_id: str | None = None
    """The workflow that its poster says it belongs to."""
    delegated_by: Delegator | None = None
    """Set where an agent gives this to another as a task."""
