"""What a dispatch's ending means for people: its cause, and what to do next."""

from typing import Final

from dispatch.payloads.signals import Cancelled, Completed, Failed, Terminal

_CANCELLED: Final = {
    "requested": "Cancelled on request while it ran.",
    "cascade": "Cancelled with what it worked for.",
    "interrupted": "Interrupted by a later entry, which took its place.",
    "rolled_back": "Rolled back by a later entry, which took its place.",
    "withdrawn": "Withdrawn while it waited; it never started.",
    "before_start": "Cancelled while it waited; it never started.",
    "cancel_grace": "Cancelled; its run did not end within the grace, so the record ended it.",
}
_FAILED: Final = {
    "orphaned": (
        "Its run went silent after it had done something visible, so it was not repeated.",
        "Read what it did, then post the entry again if the rest is still wanted.",
    ),
    "run_timeout": (
        "Its run reached the hard limit of one run.",
        "Post a smaller task, or raise ARBE_RUN_TIMEOUT_SECONDS.",
    ),
    "interrupted": (
        "Its worker was stopped after it had done something visible.",
        "Read what it did, then post the entry again if the rest is still wanted.",
    ),
    "attempts_exhausted": (
        "Every attempt died before it did anything visible.",
        "Look into the worker's log (killed? out of memory?), then post the entry again.",
    ),
    "no_progress": (
        "Its agent said nothing for longer than its progress limit, so it was stopped.",
        "See what it waits for; its agent's `progressTimeoutSeconds` sets the limit.",
    ),
    "stream_rollback": (
        "Redis came back without its last entries, and this dispatch may have run in them.",
        "Read what is left, then post the entry again if it is still wanted.",
    ),
    "sandbox_died": (
        "The sandbox of its commands died under it, and took the run with it.",
        "Post the entry again: the next turn gets a sandbox that lives.",
    ),
    "never_started": (
        "No worker took it within the start time-out.",
        "Start a worker that serves this agent's queue, then post the entry again.",
    ),
}
_FAILED_BY_AGENT: Final = (
    "The agent's turn ended with an error.",
    "Repair what the error names, then post the entry again.",
)


def explain(terminal: Terminal) -> tuple[str, str]:
    """Return why the dispatch ended and what to do next."""
    match terminal:
        case Completed():
            return "The agent's turn ended by itself.", "Nothing to do."
        case Cancelled():
            cause = _CANCELLED.get(terminal.reason, f"Cancelled ({terminal.reason}).")
            return cause, "Post the entry again if an answer is still wanted."
        case Failed():
            cause, next_step = _FAILED.get(terminal.reason, _FAILED_BY_AGENT)
            return (f"{cause} {terminal.message}" if terminal.message else cause), next_step
