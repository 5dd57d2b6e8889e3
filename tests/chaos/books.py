"""What the outside knows: what was asked, what was answered, what was seen."""

from dataclasses import dataclass, field
from typing import Literal

ThreadKind = Literal["demo", "chaos", "again", "room", "child"]


@dataclass
class Post:
    """One entry that somebody posted, under a key of its own."""

    thread_id: str
    key: str
    text: str
    tries: int = 0
    is_heard: bool = True
    """False: it went by the broker, which answers nothing and may forget it."""
    entry_id: str = ""
    """Empty: nobody has answered yet, or it was refused."""
    dispatches: list[str] = field(default_factory=list)
    refusal: str = ""


@dataclass(frozen=True)
class CancelAll:
    """All that was open in a thread was cancelled, and the answer said that it was done."""

    asked_ms: int
    answered_ms: int


@dataclass
class Book:
    """What is known of one thread."""

    thread_id: str
    kind: ThreadKind
    agents: list[str]
    """Ids of the agents that take turns there."""
    posts: list[Post] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    """Dispatches that an answer called withdrawn."""
    cancel_alls: list[CancelAll] = field(default_factory=list)
    cancelled: dict[str, str] = field(default_factory=dict)
    """Dispatch → what a cancel of it was answered."""
    deleting: bool = False
    deleted: bool = False
    """True: a DELETE of it, or of a thread above it, was answered with 204."""
    deleted_ms: int = 0
    """When the answer came."""
    children: list["Book"] = field(default_factory=list)


@dataclass
class Books:
    """What is known of all threads."""

    threads: dict[str, Book] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    """Answers that no healthy client may ever get."""
    missing: list[str] = field(default_factory=list)
    """Acknowledged entries that an answer did not know any more."""
    unavailable: int = 0
    """Answers that said "not now", and calls that were not answered in time."""

    def posts(self) -> list[Post]:
        """Return every post of every thread."""
        return [post for book in self.threads.values() for post in book.posts]

    def lanes(self) -> list[tuple[str, str]]:
        """Return every thread with each of its agents."""
        return [
            (book.thread_id, agent) for book in self.threads.values() for agent in book.agents
        ]
