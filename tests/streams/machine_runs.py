"""Rules of workers: they claim, write, take in, end, and believe in their fences for ever."""

import contextlib
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import multiple, rule

from dispatch import payloads
from dispatch.errors import Fenced
from dispatch.ids import BEGINNING, AgentId, new_run_id
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import Checkpoint
from dispatch.streams import entries
from dispatch.streams.runs import Claimed, Fence
from tests.streams import oracle
from tests.streams.lives import LANES, Holder, Known, holders, known_threads
from tests.streams.machine_people import POLICIES, POLITE, People
from tests.streams.scene import ANSWER, ASSISTANT, CALLS, CHUNK, RETRYING, USAGE

EVENTS: Final = st.lists(
    st.sampled_from([CHUNK, ASSISTANT, RETRYING, CALLS, ANSWER]), min_size=1, max_size=4
)


class Runs(People):
    """Whoever holds a fence, or held one."""

    @rule(target=holders, known=known_threads, lane=LANES, answer_lost=st.booleans())
    def claim(self, known: Known, lane: int, answer_lost: bool):
        return self.take_first(known, self.lane(lane), answer_lost=answer_lost)

    @rule(
        target=holders,
        known=known_threads,
        lane=LANES,
        policy=st.sampled_from(POLICIES),
        done=EVENTS,
        compacts=st.booleans(),
    )
    def claim_and_write(self, known: Known, lane: int, policy, done, compacts: bool):
        holder = self.hold(known, self.lane(lane), policy=policy)
        if isinstance(holder, Holder):
            self.write(holder, done)
            if compacts:
                self.holder_does(holder, "compact")
        return holder

    def hold(self, known: Known, agent_id: AgentId, *, policy=POLITE):
        """Post an entry and claim what is first in the lane, if that can be."""
        if not known.deleted:
            self.play(self.project(known))
        self.post(known, self.new_key(), [agent_id], policy=policy)
        return self.take_first(known, agent_id)

    def take_first(self, known: Known, agent_id: AgentId, *, answer_lost: bool = False):
        run_id = new_run_id()
        self.touch(known)
        claimed = self.play(self.scene.claim(known.thread_id, agent_id, run_id))
        if answer_lost and isinstance(claimed, Claimed):
            again = self.play(self.scene.claim(known.thread_id, agent_id, run_id))
            self.agree(again, claimed, "a claim that is asked again is told the same")
        if not isinstance(claimed, Claimed):
            return multiple()
        assert not known.deleted, "what is deleted stays deleted"
        known.acknowledged.add(claimed.started_id)
        assert claimed.entry, "the entry to answer comes with the claim"
        self._goes_on_from(known, claimed)
        return Holder(known, claimed.fence, claimed.started_id)

    def _goes_on_from(self, known: Known, claimed: Claimed) -> None:
        state = self.play(self.scene.state(known.thread_id))
        dispatch = state.dispatches.get(claimed.fence.dispatch_id)
        self.agree(dispatch is not None, expected=True, promise="what has ended never starts")
        stands = {entry.id: entry.payload for entry in self.look(known)}
        wanted = dispatch.checkpoint_id if dispatch is not None else None
        given = payloads.decode(claimed.checkpoint) if claimed.checkpoint else None
        self.agree(given, stands[wanted] if wanted else None, "a checkpoint comes with a claim")

    @rule(holder=holders, done=EVENTS, checkpoint=st.booleans(), answer_lost=st.booleans())
    def append(self, holder: Holder, done: list, checkpoint: bool, answer_lost: bool) -> None:
        self.write(holder, done, checkpoint=checkpoint, answer_lost=answer_lost)

    def write(
        self, holder: Holder, done: list, *, checkpoint: bool = False, answer_lost: bool = False
    ) -> None:
        """Append with the next sequence."""
        self.touch(holder.known)
        if checkpoint:
            done = [*done, checkpoint_of(holder.fence)]
        try:
            written = self.play(self.scene.append(holder.fence, holder.n + 1, *done))
            if answer_lost:
                again = self.play(self.scene.append(holder.fence, holder.n + 1, *done))
                assert again.entry_id is None, "a run's events are 1, 2, 3"
        except Fenced:
            self.refused(holder)
            return
        if written.entry_id is None:
            return  # a Redis that forgot has seen another event of this number
        holder.n += len(done)
        holder.last_id = written.entry_id
        if not payloads.is_ephemeral(done[-1]):
            holder.known.acknowledged.add(written.entry_id)

    def refused(self, holder: Holder) -> None:
        """As `workers.writer`: a run that finds its confirmed words gone tells the thread."""
        word, known = self.scene.scripts.word, holder.known
        assert word in {"FENCED", "GONE", "NO_THREAD", "GAP"}
        if word != "GAP":
            return
        assert known.is_lossy, "what was acknowledged stands"
        kept = self.look(known)[-1].id
        told = self.scene.revalidate(known.thread_id, holder.last_id, was_running=True)
        if self.play(told):
            known.owed = kept

    @rule(
        holder=holders,
        word=st.sampled_from(["renew", "release", "retry", "compact", "again", "skip"]),
    )
    def holder_does(self, holder: Holder, word: str) -> None:
        """Small things, which are often refused."""
        self.touch(holder.known)
        with contextlib.suppress(Fenced):
            match word:
                case "renew" | "release" | "retry":
                    self.play(getattr(self.scene, word)(holder.fence))
                case "compact":
                    self._compact(holder)
                case "again":
                    self._append_out_of_order(holder, 0)
                case _:
                    self._append_out_of_order(holder, 2)

    def _append_out_of_order(self, holder: Holder, off: int) -> None:
        written = self.play(self.scene.append(holder.fence, holder.n + off, RETRYING))
        fits = written.entry_id is None or holder.known.is_lossy
        self.agree(fits, expected=True, promise="a run's events are 1, 2, 3")

    def _compact(self, holder: Holder) -> None:
        """Delete a run's chunks up to its last finished message."""
        thread_id, run_id = holder.known.thread_id, holder.fence.run_id
        messages = [
            entry.id
            for entry in self.look(holder.known)
            if isinstance(entry.payload, Assistant) and entry.writer.startswith(run_id)
        ]
        if messages:
            holder.known.compacted = True
            discard = entries.discard_chunks(
                self.scene.scripts, thread_id, run_id, start=BEGINNING, end=messages[-1]
            )
            self.play(discard)

    @rule(holder=holders, step=st.integers(1, 3), answer_lost=st.booleans())
    def take(self, holder: Holder, step: int, answer_lost: bool) -> None:
        """Take in what was posted to steer the turn, against the oracle."""
        self.touch(holder.known)
        fence, before = holder.fence, self.look(holder.known)
        try:
            taken = self.play(self.scene.take(fence, holder.n + 1, step))
        except Fenced:
            self.refused(holder)
            return
        state, _ = self.since(holder.known, before)
        run = state.lanes[str(fence.lane)].run
        if run is not None and run.n != holder.n:
            return  # a Redis that forgot: it counts from what it kept
        expected = oracle.deliveries(state, str(fence.lane), fence.dispatch_id)
        found = [each for each, _ in taken.entries]
        self.agree(found, expected, "a turn takes in what steers it")
        if answer_lost and expected:
            again = self.play(self.scene.take(fence, holder.n + 1, step))
            self.agree(again, taken, "a turn takes in what steers it")
        holder.n += len(expected)

    @rule(
        holder=holders,
        done=EVENTS | st.just([]),
        outcome=st.sampled_from(["completed", "failed", "cancelled"]),
        usage=st.sampled_from([None, USAGE]),
        answer_lost=st.booleans(),
    )
    def finish(self, holder: Holder, done, outcome, usage, answer_lost: bool) -> None:
        self.end(holder, done, outcome=outcome, usage=usage, answer_lost=answer_lost)

    def end(
        self, holder: Holder, done=(), *, outcome="completed", usage=USAGE, answer_lost=False
    ) -> None:
        self.touch(holder.known)
        call = {"outcome": outcome, "usage": usage}
        try:
            ended = self.play(self.scene.finish(holder.fence, holder.n + 1, *done, **call))
            if answer_lost:
                again = self.play(self.scene.finish(holder.fence, holder.n + 1, *done, **call))
                self.agree(again, ended, "an end that is told again is the same")
        except Fenced:
            self.refused(holder)
            return
        assert not holder.known.deleted, "what is deleted stays deleted"
        holder.known.acknowledged.add(ended)


def checkpoint_of(fence: Fence) -> Checkpoint:
    return Checkpoint(dispatch_id=fence.dispatch_id, run_id=fence.run_id, state={"done": 1})
