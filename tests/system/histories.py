"""What a stream says of its dispatches, and whether that may be."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dispatch import payloads
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    Queued,
    Released,
    RunLost,
    Started,
    Steered,
)
from dispatch.streams.entries import Entry

TERMINALS = (Cancelled, Completed, Failed, Steered)


@dataclass
class History:
    """One dispatch from its birth to its end."""

    attempts: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    """The attempts that were given back."""
    lost: int = 0
    answers: int = 0
    """Finished messages of its agent."""
    terminals: list[str] = field(default_factory=list)


def of(entries: Iterable[Entry]) -> dict[str, History]:
    """Gather the dispatches of one stream."""
    found: dict[str, History] = defaultdict(History)
    for entry in entries:
        payload = entry.payload
        match payload:
            case Queued():
                found[payload.dispatch_id] = History()
            case Started():
                found[payload.dispatch_id].attempts.append(payload.attempt)
            case Released():
                history = found[payload.dispatch_id]
                history.released.append(history.attempts[-1])
            case RunLost():
                found[payload.dispatch_id].lost += 1
            case Assistant():
                # `<dispatch id>:<attempt>:<n>`
                found[payload.message_id.split(":")[0]].answers += 1
            case _ if isinstance(payload, TERMINALS):
                ending = payloads.type_of(payload).rpartition(".")[2]
                reason = f" {payload.reason}" if isinstance(payload, Failed) else ""
                found[payload.dispatch_id].terminals.append(ending + reason)
    return found


def endings(histories: Iterable[History]) -> Counter[str]:
    """Count how they ended."""
    return Counter(" and ".join(each.terminals) or "open" for each in histories)
