"""Where a thread stands in its life, for any thread: one word over chats and sub-jobs alike.

The row's `status` is coarser and has two vocabularies; `docs/lifecycle.md` has the table. Pure.
"""

from typing import Final, Literal

from dispatch.models.state import Dispatch, Lane, ThreadState
from dispatch.models.threads import ThreadStatus

LifecycleState = Literal[
    "idle", "active", "requires_action", "completed", "failed", "cancelled"
]
_ACTIONS: Final = frozenset({"permission", "output"})
"""Questions that people, or a program of theirs, answer; others answer themselves."""
_AT_REST: Final[dict[ThreadStatus, LifecycleState]] = {
    "open": "idle",
    "idle": "idle",
    "running": "active",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def lifecycle_state(state: ThreadState, status: ThreadStatus) -> LifecycleState:
    """Decide a thread's state from its stream's, or from its row's word if there is none.

    Promise: while a dispatch is open it is `requires_action` if all that could go on waits for
    an answer from outside, else `active`. At rest it tells how the last dispatch ended, and
    `idle` where none has ended since the last chat entry.
    """
    if not state.is_open:
        return _AT_REST[status]
    if state.has_work:
        return "active" if _moves(state) else "requires_action"
    if state.outcome == "orphaned":
        return "failed"
    return state.outcome or "idle"


def has_active_run(state: ThreadState) -> bool:
    """Tell whether any dispatch is queued, running or being cancelled; one that asks is not."""
    return any(not _asks(dispatch) for dispatch in state.dispatches.values())


def _moves(state: ThreadState) -> bool:
    """Tell whether any lane goes on by itself: its foremost dispatch waits for nobody."""
    heads = (_head(state, lane) for lane in state.lanes.values() if lane.has_work)
    return any(head is None or not _asks(head) for head in heads)


def _head(state: ThreadState, lane: Lane) -> Dispatch | None:
    head = lane.run.dispatch_id if lane.run is not None else lane.queue[0]
    return state.dispatches.get(head)


def _asks(dispatch: Dispatch) -> bool:
    return any(ask.kind in _ACTIONS for ask in dispatch.asks)
