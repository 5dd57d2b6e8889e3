"""What was done to the system and what its processes did: one list, in order, with times."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Event:
    """One line of the fault log."""

    at_ms: int
    """Unix ms of this process, which nobody skews; Redis has the same clock."""
    word: str
    target: str = ""
    detail: str = ""
    pid: int | None = None

    def __str__(self) -> str:
        pid = f"[{self.pid}]" if self.pid is not None else ""
        return f"{self.at_ms} {self.word} {self.target}{pid} {self.detail}".rstrip()


@dataclass
class FaultLog:
    """Everything that happened, also as a file that survives us."""

    file: Path
    events: list[Event] = field(default_factory=list)

    def note(
        self, word: str, target: str = "", detail: str = "", *, pid: int | None = None
    ) -> Event:
        """Remember that something happened now."""
        event = Event(now_ms(), word, target, detail, pid)
        self.events.append(event)
        with self.file.open("a") as file:
            file.write(json.dumps(asdict(event)) + "\n")
        return event

    def of(self, word: str) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self.events if event.word == word]

    def around(self, first_ms: int, last_ms: int) -> list[Event]:
        """Return what happened between two times."""
        return [event for event in self.events if first_ms <= event.at_ms <= last_ms]

    def counts(self) -> Counter[str]:
        """Count the events by kind."""
        return Counter(event.word for event in self.events)


def now_ms() -> int:
    """Return Unix milliseconds."""
    return time.time_ns() // 1_000_000
