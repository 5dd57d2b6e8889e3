"""What the state hash and the due index promise beyond being the fold."""

from collections import Counter
from collections.abc import Mapping

from dispatch.ids import ThreadId
from dispatch.models.state import ThreadState

GRACE_MS = 60_000
"""The longest pause between two looks at a lane whose dispatch waits for a worker."""


def one_place_each(fields: Mapping[str, str]) -> None:
    """Each dispatch of the hash waits in one queue or runs in one lane, and none besides."""
    found: Counter[str] = Counter()
    known: set[str] = set()
    for name, text in fields.items():
        kind, _, rest = name.partition(":")
        if kind == "queue":
            found.update(text.split())
        elif kind == "run":
            found[text.partition(",")[0]] += 1
        elif kind == "dispatch":
            known.add(rest)
    assert found == dict.fromkeys(known, 1), "each dispatch is in exactly one place"


def looked_at_in_time(thread_id: ThreadId, state: ThreadState, due: Mapping[str, int]) -> None:
    """A lane with work is due no later than its next clock demands.

    Args: due: milliseconds from now.
    """
    for lane_id, lane in state.lanes.items():
        if not lane.has_work:
            continue
        in_ms = due[f"{thread_id}|{lane_id}"]
        if lane.run is not None:
            policy = state.dispatches[lane.run.dispatch_id].policy
            clocks = [lane.run.lease_ms, policy.progress_ms]
            bound = min(clock for clock in clocks if clock > 0)
        else:
            bound = max(GRACE_MS, state.dispatches[lane.queue[0]].policy.max_backoff_ms)
        assert in_ms <= bound, "due names a lane no later than its clocks"
