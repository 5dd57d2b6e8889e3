"""Random lives of a few threads on a real Redis, every promise checked after every step.

Every fence ever issued stays in play, so each former holder is a zombie. Answers get lost (the
call is sent again), time jumps past every clock, chunks are compacted, threads are deleted.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from dispatch.errors import Conflict, Fenced, Gone, TooBusy
from dispatch.ids import BEGINNING, AgentId, DispatchId, EntryId, RunId, ThreadId, new_run_id
from dispatch.models.fold import fold
from dispatch.models.state import from_fields, to_fields
from dispatch.payloads.llm import Assistant
from dispatch.streams import entries, keys
from dispatch.streams.runs import Claimed, Fence
from dispatch.streams.threads import Accepted
from tests.streams.promises import Witness
from tests.streams.scene import ASSISTANT, CHUNK, RETRYING, USAGE, Read, Scene, new_lane

JUMPS = [0.5, 3.0, 11.0, 91.0, 1801.0, 7201.0]
"""Seconds: within every clock, then past backoff, cancel grace, lease, start and hard limit."""


@dataclass
class Known:
    """What the outside knows of one thread."""

    thread_id: ThreadId
    deleted: bool = False
    compacted: bool = False
    accepted: dict[str, tuple[str, Accepted]] = field(default_factory=dict)
    acknowledged: set[EntryId] = field(default_factory=set)
    killed: set[RunId] = field(default_factory=set)
    unfinished: set[str] = field(default_factory=set)
    """Its lanes with work, as the due index must name them."""


@dataclass
class Holder:
    """A worker that was given a fence, and believes in it for ever."""

    known: Known
    fence: Fence
    n: int = 0


events = st.lists(st.sampled_from([CHUNK, ASSISTANT, RETRYING]), min_size=1, max_size=4)


class Machine(RuleBasedStateMachine):
    """The rules; subclasses say on which scene they play."""

    scene: Scene
    runner: asyncio.Runner

    threads = Bundle("threads")
    holders = Bundle("holders")
    dispatches = Bundle("dispatches")

    def __init__(self) -> None:
        super().__init__()
        self.scene.threads.clear()
        self.lanes = [new_lane(), new_lane()]
        self.known: list[Known] = []
        self.touched: set[int] = set()

    def play(self, call):
        return self.runner.run(call)

    def touch(self, known: Known) -> Known:
        self.touched.add(self.known.index(known))
        return known

    def teardown(self) -> None:
        for known in self.known:
            self.play(self.scene.delete(known.thread_id))
            self.scene.redis.delete(keys.state(known.thread_id))

    # --- people ------------------------------------------------------------------------------

    @initialize(target=threads)
    def first_threads(self):
        return multiple(self._create(), self._create())

    @precondition(lambda self: len(self.known) < 3)
    @rule(target=threads)
    def create(self) -> Known:
        return self._create()

    def _create(self) -> Known:
        thread_id = self.play(self.scene.create())
        self.known.append(Known(thread_id))
        return self.touch(self.known[-1])

    @rule(
        target=dispatches,
        known=threads,
        key=st.sampled_from("abcdefgh"),
        lanes=st.sets(st.sampled_from([0, 1])),
        answer_lost=st.booleans(),
    )
    def accept(self, known: Known, key: str, lanes: set[int], answer_lost: bool):
        return self._accept(known, key, lanes, answer_lost)

    def _accept(self, known: Known, key: str, lanes: set[int], answer_lost: bool):
        agents = [self.lanes[index] for index in sorted(lanes)]
        call = {"key": key, "text": key}
        self.touch(known)
        try:
            accepted = self.play(self.scene.accept(known.thread_id, *agents, **call))
            if answer_lost:
                again = self.play(self.scene.accept(known.thread_id, *agents, **call))
                assert again.duplicate
        except Gone:
            assert known.deleted
            return multiple()
        except TooBusy:
            return multiple()
        assert not known.deleted
        if accepted.duplicate:
            first = known.accepted[key]
            assert accepted.entry_id == first.entry_id
            assert accepted.dispatches == first.dispatches
            return multiple()
        assert key not in known.accepted, "the same key never makes a second entry"
        known.accepted[key] = accepted
        known.acknowledged.add(accepted.entry_id)
        return multiple(*[(known, dispatch_id) for dispatch_id, _ in accepted.dispatches])

    @rule(known=threads, key=st.sampled_from("abcdefgh"))
    def reuse_a_key_for_another_entry(self, known: Known, key: str) -> None:
        if key not in known.accepted or known.deleted:
            return
        try:
            self.play(self.scene.accept(known.thread_id, key=key, text="other"))
        except Conflict:
            return
        raise AssertionError("a key stands for one body")

    @rule(dispatch=dispatches, answer_lost=st.booleans())
    def cancel(self, dispatch: tuple[Known, DispatchId], answer_lost: bool) -> None:
        known, dispatch_id = dispatch
        self.touch(known)
        try:
            answer = self.play(self.scene.cancel(known.thread_id, dispatch_id))
            if answer_lost:
                again = self.play(self.scene.cancel(known.thread_id, dispatch_id))
                assert again == ("requested" if answer == "requested" else "none")
        except Gone:
            assert known.deleted

    @rule(known=threads, sure=st.integers(0, 9))
    def delete(self, known: Known, sure: int) -> None:
        if sure in {2, 3, 5, 7}:
            known.deleted = True
            self.touch(known)
            self.play(self.scene.delete(known.thread_id))

    @precondition(lambda self: any(known.deleted for known in self.known))
    @rule(known=threads)
    def create_again(self, known: Known) -> None:
        try:
            self.play(self.scene.create(known.thread_id))
            assert not known.deleted
        except Gone:
            assert known.deleted
        self.scene.threads.pop()
        self.touch(known)

    # --- workers -----------------------------------------------------------------------------

    @rule(target=holders, known=threads, lane=st.sampled_from([0, 1]), lost=st.booleans())
    def claim(self, known: Known, lane: int, lost: bool):
        return self._claim(known, self.lanes[lane], lost)

    def _claim(self, known: Known, lane: AgentId, answer_lost: bool):
        run_id = new_run_id()
        self.touch(known)
        claimed = self.play(self.scene.claim(known.thread_id, lane, run_id))
        if answer_lost and isinstance(claimed, Claimed):
            assert self.play(self.scene.claim(known.thread_id, lane, run_id)) == claimed
        if not isinstance(claimed, Claimed):
            return multiple()
        assert not known.deleted
        known.acknowledged.add(claimed.started_id)
        assert claimed.entry, "the entry to answer comes with the claim"
        return Holder(known, claimed.fence)

    @rule(
        target=holders,
        known=threads,
        lane=st.sampled_from([0, 1]),
        key=st.sampled_from("abcdefgh"),
        done=events,
    )
    def claim_and_write(self, known: Known, lane: int, key: str, done: list) -> Holder:
        self._accept(known, key, {lane}, answer_lost=False)
        holder = self._claim(known, self.lanes[lane], answer_lost=False)
        if isinstance(holder, Holder):
            self.append(holder, done, answer_lost=False)
        return holder

    @rule(holder=holders, done=events, answer_lost=st.booleans())
    def append(self, holder: Holder, done: list, answer_lost: bool) -> None:
        self.touch(holder.known)
        try:
            written = self.play(self.scene.append(holder.fence, holder.n + 1, *done))
            assert written.entry_id is not None
            if answer_lost:
                again = self.play(self.scene.append(holder.fence, holder.n + 1, *done))
                assert again.entry_id is None
        except Fenced:
            assert self.scene.scripts.word in {"FENCED", "GONE", "GAP"}
            return
        holder.n += len(done)

    @rule(holder=holders, off=st.sampled_from([-1, 1, 5]))
    def append_out_of_order(self, holder: Holder, off: int) -> None:
        self.touch(holder.known)
        try:
            written = self.play(self.scene.append(holder.fence, holder.n + 1 + off, RETRYING))
            assert written.entry_id is None
            assert off < 0
        except Fenced:
            assert self.scene.scripts.word != "GAP" or off > 0

    @rule(holder=holders)
    def renew(self, holder: Holder) -> None:
        self.touch(holder.known)
        with contextlib.suppress(Fenced):
            self.play(self.scene.renew(holder.fence))

    @rule(
        holder=holders,
        done=events | st.just([]),
        outcome=st.sampled_from(["completed", "failed", "cancelled"]),
        usage=st.sampled_from([None, USAGE]),
        answer_lost=st.booleans(),
    )
    def finish(self, holder: Holder, done, outcome, usage, answer_lost: bool) -> None:
        self.touch(holder.known)
        call = {"outcome": outcome, "usage": usage}
        try:
            ended = self.play(self.scene.finish(holder.fence, holder.n + 1, *done, **call))
            if answer_lost:
                again = self.play(self.scene.finish(holder.fence, holder.n + 1, *done, **call))
                assert again == ended
        except Fenced:
            return
        assert not holder.known.deleted
        holder.known.acknowledged.add(ended)

    @rule(holder=holders)
    def release(self, holder: Holder) -> None:
        self.touch(holder.known)
        with contextlib.suppress(Fenced):
            self.play(self.scene.release(holder.fence))

    @rule(holder=holders)
    def compact(self, holder: Holder) -> None:
        """Delete a run's chunks up to its last finished message."""
        thread_id, run_id = holder.known.thread_id, holder.fence.run_id
        found = self.play(self.scene.stream(thread_id))
        messages = [
            entry.id
            for entry in found
            if isinstance(entry.payload, Assistant) and entry.writer.startswith(run_id)
        ]
        if messages:
            holder.known.compacted = True
            self.touch(holder.known)
            self.play(
                entries.discard_chunks(
                    self.scene.scripts, thread_id, run_id, start=BEGINNING, end=messages[-1]
                )
            )

    # --- keepers and time --------------------------------------------------------------------

    @rule(known=threads, lane=st.sampled_from([0, 1]))
    def expire(self, known: Known, lane: int) -> None:
        self._expire(known, self.lanes[lane])

    def _expire(self, known: Known, lane: AgentId) -> None:
        self.touch(known)
        self.play(self.scene.expire(known.thread_id, lane))

    @rule(holder=holders)
    def keeper_is_hasty(self, holder: Holder) -> None:
        """The lane was due when the keeper read the index; its run has written since."""
        self._expire(holder.known, holder.fence.lane)

    @rule(holder=holders)
    def worker_found_dead(self, holder: Holder) -> None:
        known, fence = holder.known, holder.fence
        known.killed.add(fence.run_id)
        self.scene.clock.advance(self.scene.settings.worker_dead_seconds)
        self.touch(known)
        self.play(self.scene.expire(known.thread_id, fence.lane, fence.run_id))

    @rule(target=holders, holder=holders)
    def run_goes_silent(self, holder: Holder):
        """Reaped, and another worker takes what is next; the old one knows nothing of it."""
        self.scene.clock.advance(self.scene.settings.lease_seconds + 1)
        self._expire(holder.known, holder.fence.lane)
        self.scene.clock.advance(self.scene.settings.max_retry_backoff_seconds)
        return self._claim(holder.known, holder.fence.lane, answer_lost=False)

    @rule(
        target=holders,
        known=threads,
        lane=st.sampled_from([0, 1]),
        key=st.sampled_from("abcdefgh"),
        word=st.sampled_from(["append", "finish"]),
    )
    def old_holder_wakes_up(self, known: Known, lane: int, key: str, word: str):
        """With the worst luck: its next sequence fits."""
        self._accept(known, key, {lane}, answer_lost=False)
        old = self._claim(known, self.lanes[lane], answer_lost=False)
        if not isinstance(old, Holder):
            return multiple()
        newer = self.run_goes_silent(old)
        if word == "append":
            self.append(old, [RETRYING], answer_lost=False)
        else:
            self.finish(old, [], "completed", None, answer_lost=False)
        return newer

    @rule(jump=st.sampled_from(JUMPS))
    def time_passes(self, jump: float) -> None:
        self.scene.clock.advance(jump)

    @rule(holder=consumes(holders))
    def worker_is_forgotten(self, holder: Holder) -> None:
        """One zombie less, so that lives with few of them are tried too."""

    # --- promises ----------------------------------------------------------------------------

    @invariant()
    def every_promise_holds(self) -> None:
        touched = [self.known[index] for index in sorted(self.touched)]
        self.touched.clear()
        found = self.scene.snapshot([known.thread_id for known in touched])
        for known, (fields, stream) in zip(touched, found, strict=True):
            self._check(known, fields, stream)
        assert set(self.scene.due()) == set().union(
            *(known.unfinished for known in self.known)
        ), "due holds exactly the unfinished lanes"

    def _check(self, known: Known, fields: dict[str, str], stream: list[Read]) -> None:
        state = fold(stream)
        known.unfinished = {
            f"{known.thread_id}|{lane_id}"
            for lane_id, lane in state.lanes.items()
            if lane.has_work
        }
        if known.deleted:
            assert set(fields) == {"deleted"}, "nothing but a tombstone is left"
            assert self.scene.keys_of(known.thread_id) == [keys.state(known.thread_id)]
            return
        witness = Witness(killed=known.killed, compacted=known.compacted).read(stream)
        assert to_fields(state) == fields, "the hash is the fold"
        assert from_fields(fields) == state, "the hash reads back as the fold"
        assert witness.chats == dict.fromkeys(known.accepted, 1), "one entry per key"
        assert known.acknowledged <= {entry.id for entry in stream}, "acknowledged stands"


def settings(examples: int, steps: int, **more) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        **more,
    )
