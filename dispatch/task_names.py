"""Celery task and queue names: the only thing a producer and a worker must agree on."""

from typing import Final

RUN_LANE: Final = "dispatch.run_lane"
"""(thread id, lane): the hint "look at this lane". Safe to lose, repeat, reorder or forge."""
HEAR: Final = "dispatch.hear"
"""(): a worker process's word to itself, by which it knows that it still hears."""
POST_ENTRY: Final = "dispatch.post_entry"
"""(thread, text, …): a producer's door that needs nothing but the broker."""
SWEEP_REDELIVER: Final = "dispatch.sweep.redeliver"
SWEEP_RECONCILE: Final = "dispatch.sweep.reconcile"
SWEEP_PRUNE: Final = "dispatch.sweep.prune"
SWEEP_CANCEL: Final = "dispatch.sweep.cancel"
SWEEP_ARCHIVE: Final = "dispatch.sweep.archive"
SWEEP_SANDBOXES: Final = "dispatch.sweep.sandboxes"
SWEEP_CHATS: Final = "dispatch.sweep.chats"
SWEEP_WEBHOOKS: Final = "dispatch.sweep.webhooks"
SWEEP_EXPIRE: Final = "dispatch.sweep.expire"

TURNS_QUEUE: Final = "arbe.turns"
PRODUCERS_QUEUE: Final = "arbe.producers"
SWEEPS_QUEUE: Final = "arbe.sweeps"
