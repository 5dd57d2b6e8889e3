"""The promises of one stream, checked on any prefix of it, from its entries alone.

Independent of the fold and of the state hash: it knows only what an entry says about itself.
"""

from collections.abc import Sequence
from functools import singledispatchmethod
from typing import Final

from dispatch import payloads
from dispatch.ids import milliseconds_of
from dispatch.payloads import usage as usages
from dispatch.payloads.chat import Chat
from dispatch.payloads.content import open_calls
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    Checkpoint,
    Completed,
    Delegated,
    DelegationEnded,
    EntryWritten,
    Failed,
    FellThrough,
    NoProgress,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
    Queued,
    Released,
    Resumed,
    RolledBack,
    RunLost,
    SessionOrphaned,
    Started,
    Steered,
    StreamRollback,
    Terminal,
    Waiting,
)
from dispatch.streams.threads import Answer
from tests.streams.scene import Read
from tests.streams.turns import Books, Lane, Run, Turn

BY_RECORD: Final = {
    "attempts_exhausted",
    "never_started",
    "no_progress",
    "orphaned",
    "run_timeout",
    "stream_rollback",
}
"""Why the record itself fails a dispatch."""
INTERRUPTED: Final = {"interrupted", "rolled_back"}
"""Why an entry that takes its place ends it."""


class Witness(Books):
    """Reads a stream from its first entry and stops at the first broken promise."""

    def read(self, entries: Sequence[Read]) -> "Witness":
        for entry in entries:
            self._order(entry)
            self._progress(entry)
            self._at_once(entry.payload)
            self._say(entry.payload, entry)
        assert self.orphaned is None, "a failure by the record is told to the thread"
        assert not self.falling, "whoever was to steer a turn hears that it ended"
        assert not self.rolling, "a Redis that forgot leaves no dispatch open"
        assert self.resuming is None, "a turn goes on after its last answer"
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
        if n == 0:
            run.beat_ms = milliseconds_of(entry.id)
            return
        assert n == run.n + 1 or (self.compacted and n > run.n), "a run's events are 1, 2, 3"
        run.n = n
        run.at_ms = milliseconds_of(entry.id)
        run.effects = run.effects or payloads.is_effect(entry.payload)

    def _at_once(self, payload: payloads.Payload) -> None:
        """What one transition says stands together."""
        if self.orphaned is not None:
            assert isinstance(payload, SessionOrphaned), (
                "a failure by the record is told to the thread"
            )
        elif self.resuming is not None:
            assert isinstance(payload, Resumed), "a turn goes on after its last answer"
        elif self.rolling:
            is_told = isinstance(payload, Failed | ToolResult)
            assert is_told, "a Redis that forgot leaves no dispatch open"
        elif self.falling:
            assert isinstance(payload, FellThrough), (
                "whoever was to steer a turn hears that it ended"
            )

    @singledispatchmethod
    def _say(self, _payload: object, _entry: Read) -> None:
        """Most entries promise nothing."""

    @_say.register
    def _chat(self, chat: Chat, entry: Read) -> None:
        self.chats[chat.text] += 1
        self.entries.add(entry.id)

    # --- births ------------------------------------------------------------------------------

    @_say.register
    def _born(self, queued: Queued, _entry: Read) -> None:
        dispatch_id = queued.dispatch_id
        lane = self.lanes.setdefault(queued.agent_id, Lane())
        assert dispatch_id not in self.births, "a dispatch is born once"
        assert dispatch_id.startswith(f"{queued.entry_id}.")
        assert queued.entry_id in self.entries, "a dispatch is born of an entry before it"
        assert queued.entry_id not in lane.asked, "an entry asks an agent once"
        lane.asked.add(queued.entry_id)
        self.births[dispatch_id] = queued
        turn = self.turns[dispatch_id] = Turn(queued, steers=queued.steers)
        if queued.first:
            run = lane.run
            assert lane.is_busy
            assert run is None or run.deadline_ms, (
                "the turn that is interrupted is asked to end"
            )
        if turn.steers is not None:
            assert lane.run is not None, "what steers is meant for a turn that runs"
            assert lane.run.dispatch_id == turn.steers, (
                "what steers is meant for a turn that runs"
            )
            assert not lane.run.deadline_ms, "what steers is meant for a turn that goes on"
        lane.queue.insert(0 if queued.first else len(lane.queue), dispatch_id)

    @_say.register
    def _written(self, written: EntryWritten, _entry: Read) -> None:
        lane = self.lanes[written.agent_id]
        assert written.entry_id in self.entries
        assert written.entry_id not in lane.asked, "what is only written asks nobody"
        assert written.active_dispatch_id == lane.active, "a busy lane's dispatch is named"
        lane.asked.add(written.entry_id)

    # --- runs --------------------------------------------------------------------------------

    @_say.register
    def _assistant(self, said: Assistant, entry: Read) -> None:
        assert entry.writer is not None
        turn = self.turns[self.runs[entry.writer.rpartition(":")[0]].dispatch_id]
        turn.calls |= {call.id for call in open_calls(said.message)}

    @_say.register
    def _tool_result(self, result: ToolResult, entry: Read) -> None:
        if entry.writer is not None:
            dispatch_id = self.runs[entry.writer.rpartition(":")[0]].dispatch_id
            self.turns[dispatch_id].calls.discard(result.tool_call_id)
            self.turns[dispatch_id].answered.discard(result.tool_call_id)
            return
        turn = self.turns[result.dispatch_id or ""]
        assert result.is_error, "the record answers a call only to say that nobody did"
        assert result.tool_call_id in turn.calls, "a call is answered once"
        turn.calls.remove(result.tool_call_id)
        turn.forgotten = turn.forgotten or result.tool_call_id in turn.answered

    @_say.register
    def _started(self, started: Started, entry: Read) -> None:
        dispatch_id, at_ms = started.dispatch_id, milliseconds_of(entry.id)
        lane, turn = self.lanes[started.agent_id], self.turns[dispatch_id]
        assert dispatch_id not in self.ended, "what has ended never starts"
        assert lane.run is None, "one open run per lane"
        assert started.run_id not in self.runs
        assert lane.queue[:1] == [dispatch_id], "the first of the lane starts"
        assert not turn.spoiled, "nothing runs again after a visible effect"
        assert started.attempt == turn.next_attempt, "attempts are 1, 2, 3"
        assert started.attempt <= turn.queued.max_attempts, "attempts have an end"
        assert at_ms >= turn.not_before_ms, "no attempt before its time"
        assert started.checkpoint_id == turn.checkpoint_id, (
            "a run goes on from the last checkpoint"
        )
        lane.queue.pop(0)
        lane.run = self.runs[started.run_id] = Run(started, at_ms)
        turn.next_attempt += 1

    @_say.register
    def _checkpoint(self, checkpoint: Checkpoint, entry: Read) -> None:
        run = self._by_holder(checkpoint.run_id, entry)
        assert run.dispatch_id == checkpoint.dispatch_id
        run.effects = False
        self.turns[run.dispatch_id].checkpoint_id = entry.id

    @_say.register
    def _steered(self, steered: Steered, entry: Read) -> None:
        run = self._by_holder(steered.run_id, entry)
        turn = self.turns[steered.dispatch_id]
        assert steered.into == run.dispatch_id, "an entry steers the turn that takes it in"
        assert turn.steers == steered.into, "an entry steers the turn it was meant for"
        assert turn.queued.entry_id == steered.entry_id
        lane = self.lanes[turn.queued.agent_id]
        waiting = [each for each in lane.queue if self.turns[each].steers == steered.into]
        assert waiting[:1] == [steered.dispatch_id], "what steers is taken in as it was posted"
        self._end(steered.dispatch_id)

    @_say.register
    def _fell_through(self, fell: FellThrough, _entry: Read) -> None:
        assert fell.dispatch_id in self.falling, "what falls through was to steer what ended"
        self.falling.remove(fell.dispatch_id)
        turn = self.turns[fell.dispatch_id]
        assert (turn.steers, turn.queued.entry_id) == (fell.target, fell.entry_id)
        turn.steers = None

    @_say.register
    def _released(self, released: Released, _entry: Read) -> None:
        turn = self._requeued(released.dispatch_id, released.run_id)
        turn.next_attempt -= 1
        turn.not_before_ms = 0

    @_say.register
    def _lost(self, lost: RunLost, entry: Read) -> None:
        run = self.runs[lost.run_id]
        if lost.reason != "error":
            self._is_over(run, milliseconds_of(entry.id))
        assert lost.effects == run.effects, "a loss tells whether the run was seen"
        turn = self._requeued(lost.dispatch_id, lost.run_id)
        assert lost.attempt == run.started.attempt
        assert lost.attempt < turn.queued.max_attempts, "attempts have an end"
        turn.not_before_ms = lost.not_before

    # --- questions ---------------------------------------------------------------------------

    @_say.register(PermissionRequested | Delegated)
    def _asked(self, asked: PermissionRequested | Delegated, entry: Read) -> None:
        run = self._by_holder((entry.writer or "").rpartition(":")[0], entry)
        turn = self.turns[asked.dispatch_id]
        assert run.dispatch_id == asked.dispatch_id, "a run asks for itself"
        assert _ask_id(asked) not in turn.asks, "a question is asked once"
        turn.asks[_ask_id(asked)] = asked

    @_say.register(PermissionGranted | PermissionDenied | PermissionExpired | DelegationEnded)
    def _answered(self, told: Answer, entry: Read) -> None:
        turn = self.turns[told.dispatch_id]
        assert told.dispatch_id not in self.ended, "what has ended is not answered"
        assert _ask_id(told) in turn.asks, "a question has one answer"
        asked = turn.asks.pop(_ask_id(told))
        is_delegation = isinstance(asked, Delegated)
        if is_delegation or asked.kind == "output":
            turn.answered.add(asked.tool_call_id)
        assert is_delegation == isinstance(told, DelegationEnded), "it answers the question"
        if _is_over(told):
            is_over = milliseconds_of(entry.id) >= asked.deadline
            assert is_over, "nobody's time to answer is cut short"
            assert is_delegation or told.default == asked.default
        run = self.lanes[turn.queued.agent_id].run
        if not turn.asks and (run is None or run.dispatch_id != told.dispatch_id):
            self.resuming = told.dispatch_id

    @_say.register
    def _waiting(self, waiting: Waiting, _entry: Read) -> None:
        turn = self._requeued(waiting.dispatch_id, waiting.run_id)
        assert turn.asks, "a turn waits while a question of it is open"
        assert waiting.until >= max(ask.deadline for ask in turn.asks.values())
        turn.next_attempt -= 1
        turn.not_before_ms = waiting.until

    @_say.register
    def _resumed(self, resumed: Resumed, _entry: Read) -> None:
        turn = self.turns[resumed.dispatch_id]
        assert not turn.asks, "a turn goes on after its last answer"
        assert self.resuming == resumed.dispatch_id, "a turn goes on after its last answer"
        turn.not_before_ms, self.resuming = 0, None

    # --- clocks, cancels ---------------------------------------------------------------------

    @_say.register
    def _cancel_requested(self, asked: CancelRequested, entry: Read) -> None:
        run = self._running(asked.dispatch_id)
        assert run.deadline_ms is None, "a run is asked to end once"
        limit_ms = self.births[asked.dispatch_id].progress_ms
        if asked.reason == "no_progress":
            mute_ms = milliseconds_of(entry.id) - run.at_ms
            assert 0 < limit_ms <= mute_ms, "only the mute are stopped"
        run.deadline_ms, run.reason = asked.deadline, asked.reason

    @_say.register
    def _rolled_back(self, rolled: RolledBack, _entry: Read) -> None:
        assert rolled.entry_id == self.births[rolled.dispatch_id].entry_id
        turn = self.turns[rolled.dispatch_id]
        if self.lanes[turn.queued.agent_id].run is None:
            assert turn.asks, "only what has begun is rolled back"
            turn.ends = "rolled_back"
            return
        run = self._running(rolled.dispatch_id)
        assert run.deadline_ms, "the turn that is interrupted is asked to end"
        assert not run.is_rolled_back, "a turn is rolled back once"
        run.is_rolled_back, run.reason = True, "rolled_back"

    @_say.register
    def _no_progress(self, warning: NoProgress, entry: Read) -> None:
        run = self._running(warning.dispatch_id)
        limit_ms = self.births[warning.dispatch_id].warn_ms
        assert not self.turns[warning.dispatch_id].asks, "who waits for an answer is not mute"
        assert (warning.run_id, warning.since_ms) == (run.started.run_id, run.at_ms)
        assert 0 < limit_ms <= milliseconds_of(entry.id) - run.at_ms, "only the mute are warned"
        assert run.warned_ms != run.at_ms, "a silence is warned of once"
        run.warned_ms = run.at_ms

    # --- ends --------------------------------------------------------------------------------

    @_say.register(Completed | Failed | Cancelled)
    def _terminal(self, terminal: Terminal, entry: Read) -> None:
        dispatch_id, run_id = terminal.dispatch_id, terminal.run_id
        assert dispatch_id in self.births
        assert dispatch_id not in self.ended, "one terminal per dispatch"
        is_lost = isinstance(terminal, Failed) and terminal.reason == "stream_rollback"
        if entry.writer is not None:
            self._by_holder(run_id or "", entry)
        elif run_id is not None and not is_lost:
            self._is_over(self.runs[run_id], milliseconds_of(entry.id))
        if run_id is not None:
            run = self._left(run_id)
            assert run.dispatch_id == dispatch_id
            self._fits(terminal, run, entry)
        elif isinstance(terminal, Cancelled) and terminal.reason in {
            "interrupted",
            "rolled_back",
        }:
            turn = self.turns[dispatch_id]
            assert turn.asks, "of those without a run only what waits is interrupted"
            assert (turn.ends or "interrupted") == terminal.reason
        self._end(dispatch_id, is_lost=is_lost)
        if terminal.usage is not None:
            self.usage = self.usage.plus(usages.bounded(terminal.usage))
        if isinstance(terminal, Failed) and entry.writer is None:
            assert terminal.reason in BY_RECORD
            self.orphaned = dispatch_id

    def _fits(self, terminal: Terminal, run: Run, entry: Read) -> None:
        """The reason that the record gives is what happened."""
        if entry.writer is not None or isinstance(terminal, Completed):
            return
        if isinstance(terminal, Cancelled):
            assert run.deadline_ms, "only what was asked to end is cancelled"
        elif terminal.reason == "no_progress":
            assert run.reason == "no_progress", "only the mute are stopped"
        elif terminal.reason == "orphaned":
            assert run.effects, "only what was seen is orphaned"

    @_say.register
    def _session_orphaned(self, orphaned: SessionOrphaned, _entry: Read) -> None:
        assert self.orphaned == orphaned.dispatch_id
        self.orphaned = None

    @_say.register
    def _stream_rollback(self, rollback: StreamRollback, entry: Read) -> None:
        assert rollback.witness < entry.id, "later ids exceed what the row saw"
        assert (rollback.kept or "") <= rollback.witness
        self.rollbacks += 1
        self.falling = []
        self.rolling = [each for each in self.births if each not in self.ended]


def _ask_id(said: PermissionRequested | Delegated | Answer) -> str:
    if isinstance(said, Delegated | DelegationEnded):
        return said.delegation_id
    return said.permission_id


def _is_over(told: Answer) -> bool:
    if isinstance(told, DelegationEnded):
        return told.status == "expired"
    return isinstance(told, PermissionExpired)
