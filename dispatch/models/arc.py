"""What the ARC protocol (1.0, the dialect of arc-sdk 1.3.1) calls things: error codes, times.

A code says what went wrong to programs; their ranges are the protocol's: -41xxx agents, -42xxx
tasks, -43xxx chats, -44xxx rights, -45xxx the protocol itself.
"""

from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from dispatch.errors import ArbeError


class Code(IntEnum):
    """The codes that this server answers with."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    AGENT_NOT_FOUND = -41001
    AGENT_NOT_AVAILABLE = -41002
    AGENT_UNREACHABLE = -41003
    """Nobody is left who could finish the turn: its worker died, or none took it."""
    AGENT_TIMEOUT = -41006
    TASK_NOT_FOUND = -42001
    TASK_COMPLETED = -42002
    TASK_CANCELED = -42003
    EXECUTION_FAILED = -42004
    BAD_TRANSITION = -42006
    CHAT_NOT_FOUND = -43001
    CHAT_CLOSED = -43002
    CHAT_TIMEOUT = -43003
    CHAT_OVERFLOW = -43006
    UNAUTHENTICATED = -44001
    FORBIDDEN = -44006
    RATE_LIMIT = -44007
    ARC_VERSION = -45001
    TOO_LARGE = -45004
    TRACE_INVALID = -45005


class ArcError(ArbeError):
    """Something that the protocol has a code for. `details` are the fields it carries."""

    code = "arc"

    def __init__(
        self, number: Code, what: str, *, next_step: str = "", **details: str | float | None
    ) -> None:
        self.number = number
        super().__init__(what, next_step=next_step, arcCode=int(number), **details)

    @property
    def details(self) -> dict[str, Any]:
        """Return what stands beside code and message."""
        return {name: value for name, value in self.fields.items() if name != "arcCode"}


class AgentNotFound(ArcError):
    """No such agent in the caller's house."""

    code = "agent_not_found"

    def __init__(self, agent: str) -> None:
        super().__init__(
            Code.AGENT_NOT_FOUND,
            f"No agent '{agent[:80]}' in this house.",
            next_step="Send an agent's handle or id; GET /agent-info lists them.",
            agentId=agent[:80],
        )


def time(moment: datetime) -> str:
    """Return a moment as the protocol writes times: ISO 8601 in UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_of(milliseconds: int) -> str:
    """Return a moment given as Unix milliseconds, the same way."""
    from_epoch = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return time(from_epoch)


def message(role: str, text: str, *, at: str) -> dict[str, Any]:
    """Return a message of one text part."""
    return {"role": role, "parts": [{"type": "TextPart", "content": text}], "timestamp": at}
