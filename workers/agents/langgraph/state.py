"""Does a graph's state agree with the thread's history, and what does it lack of it?

Compared by ids (see `messages`). A graph may drop or shorten its messages as it likes; one that
knows something the history does not say (a turn that was taken back) disagrees. Not
guaranteed: what a graph keeps outside its `messages`, such as a summary of its own.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from dispatch.models.history import HistoryMessage
from workers.agents.langgraph.messages import id_in_history, id_in_state

DISPATCH = "arbe_dispatch"
"""The key of a checkpoint's metadata that names the dispatch whose turn wrote it."""


class Snapshot(Protocol):
    """Of the library's `StateSnapshot` what is looked at."""

    values: Any
    next: tuple[str, ...]
    config: Any
    metadata: Any
    interrupts: Sequence[Any]


def _state_ids(snapshot: Snapshot) -> list[str]:
    values: Any = snapshot.values or {}
    messages: list[Any] = values.get("messages") or []
    ids = [id_in_state(each) for each in messages]
    return [each for each in ids if each is not None]


def is_of(snapshot: Snapshot, dispatch_id: str) -> bool:
    """Tell whether a turn of that dispatch left it."""
    return bool(snapshot.metadata) and snapshot.metadata.get(DISPATCH) == dispatch_id


def agrees(snapshot: Snapshot, history: Sequence[HistoryMessage]) -> bool:
    """Tell whether the graph knows nothing that the history does not say."""
    ids = set(_state_ids(snapshot))
    return bool(ids) and ids <= {id_in_history(each) for each in history}


def missing(snapshot: Snapshot, history: Sequence[HistoryMessage]) -> Sequence[HistoryMessage]:
    """Return what the history says after the last thing the graph knows."""
    ids = set(_state_ids(snapshot))
    for place in range(len(history) - 1, -1, -1):
        if id_in_history(history[place]) in ids:
            return history[place + 1 :]
    return history
