"""Which dispatches of a thread are open, and how the last ones ended, read from its entries."""

from collections.abc import Collection
from typing import Final

from dispatch.ids import DispatchId, entry_of
from dispatch.payloads import Payload
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    Queued,
    Started,
    Steered,
    TerminalWord,
)

_WORST_FIRST: Final[tuple[TerminalWord, ...]] = ("failed", "cancelled", "completed")


class Turns:
    """A small fold. Args: awaited: only these count; else whatever the thread has open.

    A dispatch that was taken into a running turn is that turn from then on.
    """

    def __init__(self, awaited: Collection[str] = ()) -> None:
        self._awaited = frozenset(awaited)
        self._ever_awaited = self._awaited
        self._agents: dict[str, str] = {}
        self._open: dict[str, None] = {}
        self._ended: dict[str, TerminalWord] = {}

    def see(self, payload: Payload) -> None:
        """Take in one entry's payload."""
        match payload:
            case Queued() | Started():
                self._agents[payload.dispatch_id] = payload.agent_id
                self._open[payload.dispatch_id] = None
            case Steered():
                self._join(payload.dispatch_id, payload.into)
            case Completed():
                self._end(payload.dispatch_id, "completed")
            case Failed():
                self._end(payload.dispatch_id, "failed")
            case Cancelled():
                self._end(payload.dispatch_id, "cancelled")
            case _:
                pass

    @property
    def open(self) -> list[str]:
        """Return the dispatches that have not ended, oldest first."""
        return list(self._open)

    @property
    def are_over(self) -> bool:
        """Tell whether nothing more is to come."""
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

    def _end(self, dispatch_id: str, word: TerminalWord) -> None:
        self._open.pop(dispatch_id, None)
        self._ended[dispatch_id] = word
