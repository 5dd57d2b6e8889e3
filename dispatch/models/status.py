"""The coarse word on a thread's row, decided from its state."""

from dispatch.models.state import ThreadState
from dispatch.models.threads import ThreadStatus


def thread_status(state: ThreadState, *, is_sub_job: bool) -> ThreadStatus:
    """Decide the row's status.

    Promise: any open run or queued dispatch makes it `running`. At rest a sub-job shows how its
    last dispatch ended (`idle` before that); a chat is `open`, or `failed` while its last
    dispatch is orphaned and nobody has said anything since.
    """
    if state.has_work:
        return "running"
    if state.outcome == "orphaned":
        return "failed"
    if not is_sub_job:
        return "open"
    return state.outcome or "idle"
