"""A thread's state as a value, and its two-way translation to the hash beside its stream.

The hash is a cache of `fold(stream)`: the scripts write it in the step that appends the entry,
and tests compare the two field by field. Projector, reconcile and diagnose read the hash. One
field beside the fold, `boot`, names the start of Redis under which the hash was last validated.

Not guaranteed: that every field is understood; those of a newer version are ignored.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, cast
from urllib.parse import quote, unquote

import msgspec

from dispatch.ids import (
    DispatchId,
    EntryId,
    RunId,
    WorkerId,
    entry_id_of,
    milliseconds_of,
    redis_id_of,
)
from dispatch.payloads import policy as policies
from dispatch.payloads.content import OpenCall
from dispatch.payloads.policy import DispatchPolicy
from dispatch.payloads.signals import AskDefault, AskKind
from dispatch.payloads.usage import UsageTotals

Outcome = Literal["completed", "failed", "cancelled", "orphaned"]
"""How the last dispatch to end ended; `orphaned`: nobody was left to end it, so a sweep did."""
WaitKind = AskKind | Literal["delegation"]
"""Whom a dispatch waits for: its people, a program of theirs, or another agent."""


class Ask(msgspec.Struct, frozen=True):
    """What a dispatch asked of people, of a program of theirs, or of another agent."""

    id: str
    kind: WaitKind
    deadline_ms: int
    """Unix ms; then `default` is the answer."""
    default: AskDefault
    call_id: str
    """The tool call that waits for it."""


class Dispatch(msgspec.Struct, frozen=True):
    """A dispatch that is queued or running; ended ones are not in the state."""

    lane: str
    """The agent's id as text."""
    attempt: int
    """The attempt under way, or the last one; 0 before the first."""
    policy: DispatchPolicy
    not_before_ms: int = 0
    """No attempt starts before this (Unix ms)."""
    checkpoint_id: EntryId | None = None
    """The entry of the last checkpoint, from which the next attempt goes on."""

    calls: tuple[OpenCall, ...] = ()
    """Announced and not answered yet, in order."""
    asks: tuple[Ask, ...] = ()
    """What waits for an answer from outside, in order."""
    answered: tuple[str, ...] = ()
    """Calls whose results came from outside and are not written down yet."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's try at a dispatch, while it holds the lane."""

    dispatch_id: DispatchId
    attempt: int
    run_id: RunId
    worker_id: WorkerId
    started_id: EntryId
    n: int = 0
    """Sequence of the run's last event."""
    at_ms: int
    """When the agent's last event was written, or the run started: progress."""
    lease_ms: int
    hard_ms: int
    """Unix ms at which the run ends whatever it says."""
    effects: bool = False
    """True: a follower may have acted on what it wrote, so it is never repeated."""
    cancel_deadline_ms: int | None = None
    cancel_reason: str = ""
    """Why it was asked to end; empty: it was not."""
    warned_ms: int | None = None
    """The `at_ms` for which the run was warned that it makes no progress."""
    beat_id: EntryId | None = None

    @property
    def fence(self) -> str:
        """Return the triple every write of the run must carry, as the hash holds it."""
        return f"{self.dispatch_id},{self.attempt},{self.run_id}"

    @property
    def alive_ms(self) -> int:
        """Return the Unix ms of the run's last sign of life: the lease counts from here."""
        beat_ms = milliseconds_of(self.beat_id) if self.beat_id is not None else 0
        return max(self.at_ms, beat_ms)

    @property
    def over_ms(self) -> int:
        """Return the Unix ms from which `expire` may end the run, unless it writes again."""
        over = min(self.alive_ms + self.lease_ms, self.hard_ms)
        return over if self.cancel_deadline_ms is None else min(over, self.cancel_deadline_ms)


class Ended(msgspec.Struct, frozen=True):
    """The lane's last run that ended itself; a repeated `finish` is answered from it."""

    fence: str
    terminal_id: EntryId


class Steering(msgspec.Struct, frozen=True):
    """A queued dispatch whose entry is meant for the turn of another, `target`."""

    dispatch_id: DispatchId
    target: DispatchId


class Lane(msgspec.Struct, frozen=True):
    """What runs serially in a thread: one agent's dispatches, first in first out."""

    queue: tuple[DispatchId, ...] = ()
    since_ms: int | None = None
    """Since when the queue's head waits for a worker (Unix ms); None: nothing does."""
    run: Run | None = None
    last: Ended | None = None
    steer: tuple[Steering, ...] = ()
    """Those in the queue whose entries a turn of the lane may take in, in order of posting."""

    def steering(self, target: DispatchId) -> tuple[DispatchId, ...]:
        """Return the dispatches that are to steer this one's turn."""
        return tuple(each.dispatch_id for each in self.steer if each.target == target)

    def target_of(self, dispatch_id: DispatchId) -> DispatchId | None:
        """Return the dispatch whose turn this one is to steer."""
        targets = {each.dispatch_id: each.target for each in self.steer}
        return targets.get(dispatch_id)

    @property
    def has_work(self) -> bool:
        """Tell whether the lane belongs in the due index."""
        return self.run is not None or bool(self.queue)


class ThreadState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a decision about a thread needs. `lanes` is keyed by agent id as text."""

    is_open: bool = False
    """False: no such stream, or deleted."""
    seq: int = 0
    """Sequence of the last durable entry."""
    mark: EntryId = EntryId("")
    """The last entry that may have changed the thread's status: the watermark of its row."""
    outcome: Outcome | None = None
    """None: nothing ended since the last chat entry."""
    usage: UsageTotals = UsageTotals()
    lanes: dict[str, Lane] = {}
    dispatches: dict[DispatchId, Dispatch] = {}

    @property
    def has_work(self) -> bool:
        """Tell whether any dispatch is queued or running."""
        return any(lane.has_work for lane in self.lanes.values())


def to_fields(state: ThreadState) -> dict[str, str]:
    """Return the state hash exactly as the scripts write it; empty if there is no stream."""
    if not state.is_open:
        return {}
    fields = {"open": "1", "seq": str(state.seq), "mark": state.mark}
    if state.outcome is not None:
        fields["outcome"] = state.outcome
    for name, amount in msgspec.to_builtins(state.usage).items():
        if amount:
            fields[f"usage:{name}"] = str(amount)
    for lane_id, lane in state.lanes.items():
        fields |= {f"{name}:{lane_id}": text for name, text in _lane_fields(lane).items()}
    for dispatch_id, dispatch in state.dispatches.items():
        fields |= {
            f"{name}:{dispatch_id}": text for name, text in _dispatch_fields(dispatch).items()
        }
    return fields


def from_fields(fields: Mapping[str, str]) -> ThreadState:
    """Read a state hash; an absent or deleted thread's gives a state that is not open."""
    if "open" not in fields:
        return ThreadState()
    groups: dict[str, dict[str, str]] = {}
    for field, text in fields.items():
        kind, colon, name = field.partition(":")
        if colon:
            groups.setdefault(kind, {})[name] = text
    lane_ids = {lane for kind in ("queue", "run", "last") for lane in groups.get(kind, ())}
    return ThreadState(
        is_open=True,
        seq=int(fields["seq"]),
        mark=EntryId(fields["mark"]),
        outcome=cast("Outcome | None", fields.get("outcome")),
        usage=msgspec.convert(groups.get("usage", {}), UsageTotals, strict=False),
        lanes={lane_id: _lane(fields, lane_id) for lane_id in lane_ids},
        dispatches={
            DispatchId(dispatch_id): _dispatch(
                text,
                groups.get("calls", {}).get(dispatch_id, ""),
                groups.get("asks", {}).get(dispatch_id, ""),
                groups.get("answered", {}).get(dispatch_id, ""),
            )
            for dispatch_id, text in groups.get("dispatch", {}).items()
        },
    )


def _lane_fields(lane: Lane) -> dict[str, str]:
    fields: dict[str, str] = {}
    if lane.queue:
        fields["queue"] = " ".join(lane.queue)
    if lane.since_ms is not None:
        fields["since"] = str(lane.since_ms)
    if lane.last is not None:
        fields["last"] = f"{lane.last.fence} {lane.last.terminal_id}"
    if lane.steer:
        fields["steer"] = " ".join(f"{each.dispatch_id},{each.target}" for each in lane.steer)
    return fields | _run_fields(lane.run) if lane.run is not None else fields


def _run_fields(run: Run) -> dict[str, str]:
    fields = {
        "run": run.fence,
        "n": str(run.n),
        "at": str(run.at_ms),
        "lease": str(run.lease_ms),
        "hard": str(run.hard_ms),
        "worker": run.worker_id,
        "started": run.started_id,
    }
    if run.effects:
        fields["effects"] = "1"
    if run.cancel_deadline_ms is not None:
        fields["cancel"] = f"{run.cancel_deadline_ms},{run.cancel_reason}"
    if run.warned_ms is not None:
        fields["warned"] = str(run.warned_ms)
    if run.beat_id is not None:
        fields["beat"] = redis_id_of(run.beat_id)
    return fields


def _lane(fields: Mapping[str, str], lane_id: str) -> Lane:
    since, last = fields.get(f"since:{lane_id}"), fields.get(f"last:{lane_id}")
    fence, _, terminal_id = (last or "").partition(" ")
    return Lane(
        queue=tuple(map(DispatchId, fields.get(f"queue:{lane_id}", "").split())),
        since_ms=int(since) if since is not None else None,
        run=_run(fields, lane_id),
        last=Ended(fence, EntryId(terminal_id)) if last is not None else None,
        steer=tuple(map(_steering, fields.get(f"steer:{lane_id}", "").split())),
    )


def _steering(pair: str) -> Steering:
    dispatch_id, _, target = pair.partition(",")
    return Steering(DispatchId(dispatch_id), DispatchId(target))


def _run(fields: Mapping[str, str], lane_id: str) -> Run | None:
    fence = fields.get(f"run:{lane_id}")
    if fence is None:
        return None
    dispatch_id, attempt, run_id = fence.split(",")
    deadline, _, reason = fields.get(f"cancel:{lane_id}", "").partition(",")
    beat, warned = fields.get(f"beat:{lane_id}"), fields.get(f"warned:{lane_id}")
    return Run(
        dispatch_id=DispatchId(dispatch_id),
        attempt=int(attempt),
        run_id=RunId(run_id),
        worker_id=WorkerId(fields[f"worker:{lane_id}"]),
        started_id=EntryId(fields[f"started:{lane_id}"]),
        n=int(fields[f"n:{lane_id}"]),
        at_ms=int(fields[f"at:{lane_id}"]),
        lease_ms=int(fields[f"lease:{lane_id}"]),
        hard_ms=int(fields[f"hard:{lane_id}"]),
        effects=f"effects:{lane_id}" in fields,
        cancel_deadline_ms=int(deadline) if deadline else None,
        cancel_reason=reason,
        warned_ms=int(warned) if warned is not None else None,
        beat_id=entry_id_of(beat) if beat is not None else None,
    )


def calls_text(calls: Iterable[OpenCall]) -> str:
    """Return calls as the hash holds them: `id,name`, made safe, with spaces between."""
    return " ".join(f"{quote(call.id, safe='')},{quote(call.name, safe='')}" for call in calls)


def _calls(text: str) -> tuple[OpenCall, ...]:
    pairs = (word.partition(",") for word in text.split())
    return tuple(OpenCall(unquote(call_id), unquote(name)) for call_id, _, name in pairs)


def _dispatch_fields(dispatch: Dispatch) -> dict[str, str]:
    fields = {
        "dispatch": f"{dispatch.lane},{dispatch.attempt},{dispatch.policy.max_attempts},"
        f"{dispatch.not_before_ms},{dispatch.policy.text},{dispatch.checkpoint_id or ''}"
    }
    if dispatch.calls:
        fields["calls"] = calls_text(dispatch.calls)
    if dispatch.asks:
        fields["asks"] = " ".join(map(_ask_text, dispatch.asks))
    if dispatch.answered:
        fields["answered"] = " ".join(quote(each, safe="") for each in dispatch.answered)
    return fields


def _ask_text(ask: Ask) -> str:
    safe = quote(ask.call_id, safe="")
    return f"{ask.id},{ask.kind},{ask.deadline_ms},{ask.default},{safe}"


def asks_of(text: str) -> tuple[Ask, ...]:
    """Read a dispatch's questions as the hash holds them."""
    return tuple(map(_ask, text.split()))


def _ask(word: str) -> Ask:
    ask_id, kind, deadline, default, call_id = word.split(",")
    return Ask(
        ask_id,
        cast("WaitKind", kind),
        int(deadline),
        cast("AskDefault", default),
        unquote(call_id),
    )


def _dispatch(text: str, calls: str, asks: str, answered: str) -> Dispatch:
    lane, attempt, max_attempts, not_before, policy, checkpoint = [*text.split(","), "", ""][:6]
    return Dispatch(
        lane,
        int(attempt),
        policies.from_text(int(max_attempts), policy),
        int(not_before),
        EntryId(checkpoint) if checkpoint else None,
        _calls(calls),
        asks_of(asks),
        tuple(map(unquote, answered.split())),
    )
