"""Which dispatches of a thread are open, and how the last ones ended, read from its entries.

An answer that names other agents wakes them a moment after its turn ended: until it stands as
an entry, the turn asks, and is not over.
"""

from collections.abc import Collection, Mapping
from typing import Final

from dispatch.ids import DispatchId, entry_of
from dispatch.models import mentions
from dispatch.payloads import Payload, content
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    HopLimit,
    Queued,
    Started,
    Steered,
    TerminalWord,
)

_WORDS: Final[dict[type, TerminalWord]] = {
    Completed: "completed",
    Failed: "failed",
    Cancelled: "cancelled",
}
_WORST_FIRST: Final[tuple[TerminalWord, ...]] = ("failed", "cancelled", "completed")


class Turns:
    """A small fold.

    Args: awaited: only these count; else whatever the thread has open. listeners: the handles
    of the agents that an answer here can wake, by id.

    A dispatch that was taken into a running turn is that turn from then on; one that asks other
    agents is awaited together with theirs.
    """

    def __init__(
        self, awaited: Collection[str] = (), listeners: Mapping[str, str] | None = None
    ) -> None:
        self._awaited = frozenset(awaited)
        self._ever_awaited = self._awaited
        self._listeners = listeners or {}
        self._answers: dict[str, str] = {}
        """By dispatch: its last words."""
        self._asking: dict[str, int] = {}
        """By agent: when its turn ended whose answer is no entry yet."""
        self._asked: str | None = None
        """The entry that such an answer became; empty until its first dispatch tells its id."""
        self._agents: dict[str, str] = {}
        self._open: dict[str, None] = {}
        self._ended: dict[str, TerminalWord] = {}

    def see(self, payload: Payload, *, at: int = 0) -> None:
        """Take in one entry's payload. Args: at: Unix milliseconds of the entry."""
        match payload:
            case Queued() | Started():
                self._agents[payload.dispatch_id] = payload.agent_id
                self._open[payload.dispatch_id] = None
                self._follow_the_asked(payload)
            case Assistant() if content.is_finished(payload.message):
                dispatch_id = payload.message_id.partition(":")[0]
                self._answers[dispatch_id] = content.text_of(payload.message)
            case Chat(by=by) if by.id in self._asking:
                # Its dispatches stand right behind it.
                del self._asking[by.id]
                self._asked = ""
            case HopLimit():
                self._asking.pop(self._agents.get(payload.dispatch_id, ""), None)
            case Steered():
                self._join(payload.dispatch_id, payload.into)
            case Completed() | Failed() | Cancelled():
                self._end(payload, at)
            case _:
                pass

    @property
    def open(self) -> list[str]:
        """Return the dispatches that have not ended, oldest first."""
        return list(self._open)

    @property
    def are_over(self) -> bool:
        """Tell whether nothing more is to come."""
        return self._have_ended and not self._asking and self._asked != ""

    @property
    def asking_since(self) -> int | None:
        """Return when the last turn ended, if only its answer to others is still to come.

        It may never come: the record knows better than its entries whom an answer wakes.
        """
        return max(self._asking.values()) if self._have_ended and self._asking else None

    @property
    def _have_ended(self) -> bool:
        if self._awaited:
            return self._awaited <= self._ended.keys()
        return not self._open

    @property
    def outcome(self) -> TerminalWord | None:
        """Return how the last turn ended: the worst word of the dispatches of one entry.

        None: nothing ended yet.
        """
        words = {word for dispatch, word in self._ended.items() if dispatch in self._last()}
        return next((word for word in _WORST_FIRST if word in words), None)

    def concerns(self, dispatch_id: str) -> bool:
        """Tell whether a dispatch is awaited, was before it joined another, or all are."""
        return not self._ever_awaited or dispatch_id in self._ever_awaited

    def agent_of(self, dispatch_id: str) -> str | None:
        """Return the id of the agent whose turn a dispatch is."""
        return self._agents.get(dispatch_id)

    def _last(self) -> frozenset[str]:
        if self._awaited or not self._ended:
            return self._awaited
        last = max(entry_of(DispatchId(dispatch)) for dispatch in self._ended)
        return frozenset(d for d in self._ended if entry_of(DispatchId(d)) == last)

    def _join(self, dispatch_id: str, into: str) -> None:
        """Let the turn that took a dispatch in stand for it: it is open until its terminal."""
        self._open.pop(dispatch_id, None)
        self._open[into] = None
        if dispatch_id in self._agents:
            self._agents[into] = self._agents[dispatch_id]
        if dispatch_id in self._awaited:
            self._awaited = self._awaited - {dispatch_id} | {into}
            self._ever_awaited |= {into}

    def _end(self, terminal: Completed | Failed | Cancelled, at: int) -> None:
        self._open.pop(terminal.dispatch_id, None)
        self._ended[terminal.dispatch_id] = _WORDS[type(terminal)]
        if isinstance(terminal, Completed):
            self._ask(terminal.dispatch_id, at)

    def _ask(self, dispatch_id: str, at: int) -> None:
        """Expect an entry, if the turn's answer names somebody whom it can wake."""
        agent_id = self._agents.get(dispatch_id, "")
        named = set(mentions.mentioned(self._answers.pop(dispatch_id, "")))
        others = {each for key, each in self._listeners.items() if key != agent_id}
        if self.concerns(dispatch_id) and named & others:
            self._asking[agent_id] = at

    def _follow_the_asked(self, born: Queued | Started) -> None:
        entry_id = entry_of(DispatchId(born.dispatch_id))
        if self._asked == "":
            self._asked = entry_id
        if self._asked == entry_id and self._awaited:
            self._awaited |= {born.dispatch_id}
            self._ever_awaited |= {born.dispatch_id}
