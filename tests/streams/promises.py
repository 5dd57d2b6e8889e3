"""The promises of one stream, checked on any prefix of it, from its entries alone.

Independent of the fold and of the state hash: it knows only what an entry says about itself.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from dispatch import payloads
from dispatch.ids import RunId, milliseconds_of
from dispatch.payloads.chat import Chat
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    Checkpoint,
    Completed,
    Failed,
    FellThrough,
    Queued,
    Released,
    RunLost,
    SessionOrphaned,
    Started,
    Steered,
)
from tests.streams.scene import Read


@dataclass
class Run:
    """One run as the stream tells it."""

    started: Started
    at_ms: int
    n: int = 0
    is_open: bool = True
    effects: bool = False
    deadline_ms: int | None = None

    @property
    def over_ms(self) -> int:
        clocks = [self.at_ms + self.started.lease_ms, self.started.hard_ms]
        return min([*clocks, self.deadline_ms] if self.deadline_ms else clocks)


@dataclass
class Witness:
    """Reads a stream from its first entry and stops at the first broken promise."""

    killed: Collection[RunId] = ()
    """Runs whose process was said to be dead: they may be ended before their lease is over."""
    compacted: bool = False
    """True: chunks were deleted, so a run's sequence may have holes."""
    seq: int = 0
    last_id: str = ""
    births: dict[str, Queued] = field(default_factory=dict)
    next_attempt: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    """Dispatches that were asked to end while they ran."""
    fallen: set[str] = field(default_factory=set)
    """Dispatches that were to steer a turn and were told that it had ended."""
    spoiled: set[str] = field(default_factory=set)
    runs: dict[str, Run] = field(default_factory=dict)
    chats: Counter[str] = field(default_factory=Counter)
    orphaned: str | None = None
    """A dispatch whose `failed` must be followed by the thread's own signal."""

    def read(self, entries: Sequence[Read]) -> "Witness":
        for entry in entries:
            self._order(entry)
            self._progress(entry)
            self._meaning(entry)
        assert self.orphaned is None, "a failure by the record is told to the thread"
        return self

    def _order(self, entry: Read) -> None:
        assert entry.id > self.last_id, "ids increase"
        self.last_id = entry.id
        if entry.seq is not None:
            assert entry.seq == self.seq + 1, "durable entries are counted without a hole"
            self.seq = entry.seq
        assert (entry.seq is None) == payloads.is_ephemeral(entry.payload)

    def _progress(self, entry: Read) -> None:
        if entry.writer is None:
            return
        run_id, _, text = entry.writer.rpartition(":")
        run, n = self.runs[run_id], int(text)
        assert run.is_open, "no event of a run after its end"
        if n > 0:
            assert n == run.n + 1 or (self.compacted and n > run.n), (
                "a run's events are 1, 2, 3"
            )
            run.n = n
        run.at_ms = milliseconds_of(entry.id)
        run.effects = run.effects or payloads.is_effect(entry.payload)
        if isinstance(entry.payload, Checkpoint):
            # From here another run may go on.
            run.effects = False

    def _meaning(self, entry: Read) -> None:
        match entry.payload:
            case Chat(text=text):
                self.chats[text] += 1
            case Queued() as queued:
                self._born(queued, entry)
            case Started() as started:
                self._started(started, milliseconds_of(entry.id))
            case Completed() | Failed() | Cancelled() as terminal:
                self._ended(terminal, entry, milliseconds_of(entry.id))
            case _:
                self._turned(entry)

    def _turned(self, entry: Read) -> None:
        at_ms = milliseconds_of(entry.id)
        match entry.payload:
            case Released() as released:
                self._left(released.run_id)
                self.next_attempt[released.dispatch_id] -= 1
            case RunLost(run_id=run_id, reason="error"):
                self._left(run_id)
            case RunLost(run_id=run_id):
                self._reaped(run_id, at_ms)
            case Steered() as steered:
                self._steered(steered)
            case FellThrough(dispatch_id=dispatch_id, target=target):
                assert target in self.ended, "only what ended is not steered any more"
                self.fallen.add(dispatch_id)
            case CancelRequested(dispatch_id=dispatch_id, deadline=deadline):
                self.asked.add(dispatch_id)
                self._open_run(dispatch_id).deadline_ms = deadline
            case SessionOrphaned(dispatch_id=dispatch_id):
                assert self.orphaned == dispatch_id
                self.orphaned = None
            case _:
                pass

    def _born(self, queued: Queued, entry: Read) -> None:
        assert queued.dispatch_id not in self.births, "a dispatch is born once"
        assert queued.dispatch_id.startswith(queued.entry_id)
        assert queued.entry_id < entry.id
        self.births[queued.dispatch_id] = queued
        self.next_attempt[queued.dispatch_id] = 1

    def _started(self, started: Started, at_ms: int) -> None:
        dispatch_id = started.dispatch_id
        assert dispatch_id not in self.ended, "what has ended never starts"
        assert dispatch_id not in self.asked, "a cancel is never undone"
        if self.births[dispatch_id].steers is not None:
            assert dispatch_id in self.fallen, "what steers a turn never runs untold"
        assert dispatch_id not in self.spoiled, "nothing runs again after a visible effect"
        assert started.attempt == self.next_attempt[dispatch_id], "attempts are 1, 2, 3"
        assert started.attempt <= self.births[dispatch_id].max_attempts
        assert started.run_id not in self.runs
        for run in self.runs.values():
            other_lane = run.started.agent_id != started.agent_id
            assert not run.is_open or other_lane, "one open run per lane"
        self.runs[started.run_id] = Run(started, at_ms)
        self.next_attempt[dispatch_id] += 1

    def _open_run(self, dispatch_id: str) -> Run:
        found = [
            run
            for run in self.runs.values()
            if run.is_open and run.started.dispatch_id == dispatch_id
        ]
        assert len(found) == 1
        return found[0]

    def _left(self, run_id: str | None) -> Run:
        assert run_id is not None
        run = self.runs[run_id]
        assert run.is_open, "a run ends once"
        run.is_open = False
        dispatch_id = run.started.dispatch_id
        if run.effects and not self.births[dispatch_id].repeatable:
            self.spoiled.add(dispatch_id)
        return run

    def _steered(self, steered: Steered) -> None:
        """A terminal too: the entry was taken into another's turn."""
        run = self.runs[steered.run_id]
        assert run.is_open, "an entry is taken into a turn that goes on"
        assert run.started.dispatch_id == steered.into
        assert self.births[steered.dispatch_id].steers == steered.into
        assert steered.dispatch_id not in self.ended, "one terminal per dispatch"
        self.ended.add(steered.dispatch_id)
        run.effects = True

    def _reaped(self, run_id: str | None, at_ms: int) -> None:
        run = self._left(run_id)
        lives = at_ms < run.over_ms and run_id not in self.killed
        assert not lives, "nobody whose lease lives is reaped"

    def _ended(self, terminal: Completed | Failed | Cancelled, entry: Read, at_ms: int) -> None:
        dispatch_id = terminal.dispatch_id
        assert dispatch_id in self.births
        assert dispatch_id not in self.ended, "one terminal per dispatch"
        self.ended.add(dispatch_id)
        if entry.writer is not None:
            assert entry.writer.startswith(f"{terminal.run_id}:")
            self._left(terminal.run_id)
        elif isinstance(terminal, Failed) and terminal.reason == "stream_rollback":
            # Whether its lease lived is not asked: it may have run in what was lost.
            if terminal.run_id is not None:
                self._left(terminal.run_id)
        elif terminal.run_id is not None:
            self._reaped(terminal.run_id, at_ms)
        if isinstance(terminal, Failed) and entry.writer is None:
            self.orphaned = dispatch_id
