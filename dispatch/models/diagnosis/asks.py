"""What an open dispatch waits for, and how long that may take. Pure."""

from typing import Final

from dispatch.models.delegations import place_of
from dispatch.models.diagnosis import Evidence, Said, Sight
from dispatch.models.state import Ask, Dispatch

_GRACES: Final = 4
"""As for hints: the sweep that answers for those who do not has looked several times."""


def judge(dispatch: Dispatch, sight: Sight, *, is_held: bool) -> Said:
    """Judge a dispatch that waits for answers. Args: is_held: a worker holds it meanwhile."""
    first = min(dispatch.asks, key=lambda ask: (ask.kind == "delegation", ask.deadline_ms))
    late_seconds = sight.seconds_since(first.deadline_ms)
    if not is_held and late_seconds > _GRACES * sight.patience.redeliver_after_seconds:
        return Said(
            "stalled",
            f"What it asked was over {late_seconds} s ago, and no sweep has said so.",
            sight.reconcile,
        )
    count = len(dispatch.asks) - 1
    more = f" and asks {count} more" if count else ""
    where = "in its worker" if is_held else "and holds no worker"
    left_seconds = sight.seconds_until(first.deadline_ms)
    if first.kind == "delegation":
        thread_id, _ = place_of(first.id)
        return Said(
            "waiting",
            f"It waits for a task that it gave to another agent{more}, {where}; in "
            f"{left_seconds} s it gives it up.",
            f"See how that stands: arbe thread diagnose {thread_id}.",
        )
    default = "granted" if first.default == "grant" else "denied"
    return Said(
        "waiting",
        f"It waits for {_wish(first, dispatch)}{more}, {where}; without an answer it is "
        f"{default} in {left_seconds} s.",
        f"Answer it: {_command(first, sight)} (or deny).",
    )


def evidence(dispatch: Dispatch) -> Evidence:
    """Return the open questions of a dispatch, by id, and when the first of them is over."""
    if not dispatch.asks:
        return {}
    return {
        "asks": [ask.id for ask in dispatch.asks],
        "askDeadlineMs": min(ask.deadline_ms for ask in dispatch.asks),
    }


def _wish(ask: Ask, dispatch: Dispatch) -> str:
    names = {call.id: call.name for call in dispatch.calls}
    name = names.get(ask.call_id, "a tool")
    return f"what comes of `{name}`" if ask.kind == "output" else f"permission to call `{name}`"


def _command(ask: Ask, sight: Sight) -> str:
    output = " --output -" if ask.kind == "output" else ""
    return f"arbe permission grant {sight.ref} {ask.id}{output}"
