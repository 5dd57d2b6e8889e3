"""The timetable: which sweep runs how often. Data only.

Every sweep is safe twice at once and when killed, so any number of beats may run. A tick that
was not taken before the next one is due expires: sweeps do not pile up behind a busy worker.
"""

from typing import NamedTuple


class Tick(NamedTuple):
    """One line of the timetable; seconds throughout."""

    name: str
    task: str
    every_seconds: float
    expires_seconds: float
    queue: str = "arbe.sweeps"


TIMETABLE = (
    # Lanes that are due: lost hints are sent again, leases that are over end.
    Tick("redeliver", "dispatch.sweep.redeliver", 2.0, 2.0),
    # Runs of worker processes known dead (15 s without a beat): all found within 20 s.
    Tick("reconcile", "dispatch.sweep.reconcile", 3.0, 3.0),
    # Cancels of many dispatches: what their request left, what ending dispatches woke since.
    Tick("cancel", "dispatch.sweep.cancel", 2.0, 2.0),
    # Rows that say `running` and whose stream Redis has lost; deletions left half done; keys
    # of calls that are two days old. Rows whose projector died are found sooner, by reconcile.
    Tick("prune", "dispatch.sweep.prune", 10.0, 10.0),
    # Threads that are too long or old (`config.archive`, `ARBE_ARCHIVE_…`); what restores and
    # crashes left in the archive.
    Tick("archive", "dispatch.sweep.archive", 30.0, 30.0),
    # Sandboxes that ran no command for an hour (`ARBE_SANDBOX_IDLE_SECONDS`).
    Tick("sandboxes", "dispatch.sweep.sandboxes", 30.0, 30.0),
    # ARC's chats that were closed 24 h ago, or as long as their close said.
    Tick("chats", "dispatch.sweep.chats", 60.0, 60.0),
    # What happened to ARC tasks, for those who subscribed.
    Tick("webhooks", "dispatch.sweep.webhooks", 2.0, 2.0),
    # Threads whose `expires_at` has passed and that do not run.
    Tick("expire", "dispatch.sweep.expire", 30.0, 30.0),
)
