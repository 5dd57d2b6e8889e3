"""Dispatches, runs and lanes as a stream tells them; `promises.Witness` keeps the books."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from dispatch.ids import RunId
from dispatch.payloads.signals import Delegated, PermissionRequested, Queued, Started
from dispatch.payloads.usage import UsageTotals
from tests.streams.scene import Read

UNPAIRED: Final = "no run ends before its tool calls have results"


@dataclass
class Turn:
    """One dispatch."""

    queued: Queued
    steers: str | None
    """The turn that may take its entry in; None once that has ended."""
    next_attempt: int = 1
    not_before_ms: int = 0
    checkpoint_id: str | None = None
    calls: set[str] = field(default_factory=set)
    """Tool calls that were announced and have no result yet."""
    asks: dict[str, PermissionRequested | Delegated] = field(default_factory=dict)
    """Questions and tasks that have no answer yet."""
    answered: set[str] = field(default_factory=set)
    """Calls whose results came from outside and are not written down yet."""
    forgotten: bool = False
    """True: one of those was called interrupted, as if nobody knew."""
    ends: str = ""
    """How its terminal must say that it ended; empty: nothing has been said."""
    spoiled: bool = False
    """True: a run of it was seen, since its checkpoint, and it may not happen twice."""


@dataclass
class Run:
    """One run."""

    started: Started
    at_ms: int
    """Its last event."""
    beat_ms: int = 0
    n: int = 0
    is_open: bool = True
    effects: bool = False
    deadline_ms: int | None = None
    reason: str = ""
    """Why it was asked to end."""
    is_rolled_back: bool = False
    warned_ms: int | None = None

    @property
    def dispatch_id(self) -> str:
        return self.started.dispatch_id

    @property
    def alive_ms(self) -> int:
        return max(self.at_ms, self.beat_ms)

    @property
    def over_ms(self) -> int:
        clocks = [self.alive_ms + self.started.lease_ms, self.started.hard_ms]
        return min([*clocks, self.deadline_ms] if self.deadline_ms else clocks)


@dataclass
class Lane:
    """One agent's dispatches."""

    queue: list[str] = field(default_factory=list)
    run: Run | None = None
    asked: set[str] = field(default_factory=set)
    """Entries that asked this agent."""

    @property
    def is_busy(self) -> bool:
        return self.active is not None

    @property
    def active(self) -> str | None:
        if self.run is not None:
            return self.run.dispatch_id
        return self.queue[0] if self.queue else None


@dataclass
class Books:
    """What a stream has told up to some entry, and the promises that hold between its turns."""

    killed: Collection[RunId] = ()
    """Runs whose process was said to be dead: they may be ended before their lease is over."""
    dead_ms: int = 0
    """But not before they have been silent for this long."""
    compacted: bool = False
    """True: chunks were deleted, so a run's sequence may have holes."""
    seq: int = 0
    last_id: str = ""
    births: dict[str, Queued] = field(default_factory=dict)
    turns: dict[str, Turn] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    runs: dict[str, Run] = field(default_factory=dict)
    chats: Counter[str] = field(default_factory=Counter)
    entries: set[str] = field(default_factory=set)
    usage: UsageTotals = field(default_factory=UsageTotals)
    rollbacks: int = 0
    orphaned: str | None = None
    """A dispatch whose `failed` must be followed by the thread's own signal."""
    falling: list[str] = field(default_factory=list)
    """Steering dispatches whose target has just ended: they are told so at once."""
    resuming: str | None = None
    """A dispatch without a run whose last question was answered: it goes on at once."""
    rolling: list[str] = field(default_factory=list)
    """Dispatches that were open when Redis had forgotten: they end at once."""

    def _requeued(self, dispatch_id: str, run_id: str) -> Turn:
        run, turn = self._left(run_id), self.turns[dispatch_id]
        assert run.dispatch_id == dispatch_id
        assert not run.deadline_ms, "a cancel is never undone"
        waiting = {each.tool_call_id for each in turn.asks.values()}
        assert turn.calls <= waiting | turn.answered, UNPAIRED
        assert not turn.forgotten, "a result from outside is not lost with a run"
        self.lanes[turn.queued.agent_id].queue.insert(0, dispatch_id)
        return turn

    def _end(self, dispatch_id: str, *, is_lost: bool = False) -> None:
        assert not self.turns[dispatch_id].calls, UNPAIRED
        self.ended.add(dispatch_id)
        lane = self.lanes[self.births[dispatch_id].agent_id]
        if dispatch_id in lane.queue:
            lane.queue.remove(dispatch_id)
        if is_lost:
            assert dispatch_id in self.rolling, "only a Redis that forgot ends all at once"
            self.rolling.remove(dispatch_id)
            return
        self.falling = [each for each in lane.queue if self.turns[each].steers == dispatch_id]

    def _running(self, dispatch_id: str) -> Run:
        run = self.lanes[self.births[dispatch_id].agent_id].run
        assert run is not None
        assert run.dispatch_id == dispatch_id
        return run

    def _by_holder(self, run_id: str, entry: Read) -> Run:
        assert entry.writer is not None
        assert entry.writer.startswith(f"{run_id}:"), "a run speaks for itself"
        return self.runs[run_id]

    def _left(self, run_id: str) -> Run:
        run = self.runs[run_id]
        assert run.is_open, "a run ends once"
        run.is_open = False
        self.lanes[run.started.agent_id].run = None
        if run.effects and not self.births[run.dispatch_id].repeatable:
            self.turns[run.dispatch_id].spoiled = True
        return run

    def _is_over(self, run: Run, at_ms: int) -> None:
        is_killed = run.started.run_id in self.killed
        assert at_ms >= run.over_ms or is_killed, "nobody whose lease lives is reaped"
        is_silent = at_ms - run.alive_ms >= self.dead_ms
        assert at_ms >= run.over_ms or is_silent, "a run's words are signs of life"
