"""Which threads a cleanup removes, and what it makes of each. Pure."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from dispatch.ids import milliseconds_of
from dispatch.models.state import ThreadState
from dispatch.models.threads import Thread, ThreadStatus

Verdict = Literal["removable", "running", "recent", "pinned"]


class Cleanup(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted; all that is said must hold of a thread."""

    older_than_seconds: float | None = None
    """Nothing was said or done in it, nor in any thread below it, for this long."""
    expired: bool = False
    """Its `expires_at` has passed."""
    tag: str | None = None
    key_prefix: str | None = None
    status: ThreadStatus | None = None
    running: bool = False
    """Those with open work too: it is cut off."""
    pinned: bool = False
    """Pinned ones too."""


class Seen(msgspec.Struct, frozen=True):
    """A thread as its row and its stream show it."""

    row: Thread
    state: ThreadState

    @property
    def active_ms(self) -> int:
        """Return the Unix ms of its last activity: what changed its status, or its birth."""
        mark = max(self.row.stream_id, self.state.mark)
        return milliseconds_of(mark) if mark else int(self.row.created_at.timestamp() * 1000)


def judge(tree: Sequence[Seen], where: Cleanup, *, before_ms: int) -> Verdict:
    """Decide about a thread and all below it, which go together or not at all.

    Args: before_ms: with `older_than_seconds`; whatever was active since is `recent`.
    """
    if not where.running and any(each.state.has_work for each in tree):
        return "running"
    if where.older_than_seconds is not None and any(
        each.active_ms >= before_ms for each in tree
    ):
        return "recent"
    if not where.pinned and any(each.row.pinned_at is not None for each in tree):
        return "pinned"
    return "removable"
