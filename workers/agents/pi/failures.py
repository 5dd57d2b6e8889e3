"""What became of a turn, from pi's last message: which tells failures as text."""

import re
from typing import Any, Final

from dispatch import log
from dispatch.payloads.usage import TokenUsage
from workers.outcomes import AgentOutcome, Completed, Failed

_LASTING: Final = re.compile(
    r"\b(400|401|402|403|404|405|422)\b|invalid.?api.?key|unauthori[sz]ed|authentication"
    r"|permission|insufficient.?quota|billing|content.?filter|not.?found|unsupported",
    re.IGNORECASE,
)
"""What another try will meet again."""
_LIMITED: Final = re.compile(r"\b429\b|rate.?limit|too many requests", re.IGNORECASE)
MAX_MESSAGE: Final = 2000


def outcome(last: dict[str, Any], usage: TokenUsage) -> AgentOutcome:
    """Return how the turn ended by its last message."""
    match last.get("stopReason"):
        case "error":
            return provider_failed(str(last.get("errorMessage") or "no reason given"), usage)
        case "aborted":
            return Failed(reason="agent_error", message="pi aborted its own run.", usage=usage)
        case None:
            return Failed(
                reason="agent_error",
                message="pi ended the turn without an answer.",
                usage=usage,
                retryable=True,
            )
        case _:
            return Completed(usage=usage)


def provider_failed(message: str, usage: TokenUsage) -> Failed:
    """Return the failure of a provider after pi's own tries are used up."""
    shown = log.scrub(message)[:MAX_MESSAGE]
    lasting = _LASTING.search(shown) is not None
    limited = not lasting and _LIMITED.search(shown) is not None
    return Failed(
        reason="rate_limited" if limited else "provider_error",
        message=f"The model's provider failed: {shown}",
        usage=usage,
        retryable=not lasting,
    )
