"""Rules of keepers and time: leases end, workers die, clocks jump."""

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from dispatch.ids import AgentId, RunId
from tests.streams import oracle
from tests.streams.lives import LANES, Holder, Known, holders, known_threads
from tests.streams.machine_runs import Runs

JUMPS: Final = [0.5, 3.0, 11.0, 91.0, 1801.0, 7201.0]
"""Seconds: within every clock, then past backoff, cancel grace, lease, start and hard limit."""


class Keepers(Runs):
    """Whoever looks at what is due, and the time."""

    @rule(known=known_threads, lane=LANES)
    def expire(self, known: Known, lane: int) -> None:
        self.look_at(known, self.lane(lane))

    def look_at(self, known: Known, agent_id: AgentId, dead: RunId | None = None) -> str:
        """Let a keeper look at a lane, against the oracle."""
        self.touch(known)
        before = self.look(known)
        verdict = self.play(self.scene.expire(known.thread_id, agent_id, dead))
        if known.deleted or self.is_missing(known):
            assert verdict in {"gone", "no_thread"}, "what is deleted stays deleted"
            return verdict
        state, _ = self.since(known, before)
        expected = oracle.verdict(
            state,
            str(agent_id),
            now_ms=self.scene.clock.now_ms,
            dead=dead,
            settings=self.scene.settings,
        )
        self.agree(verdict, expected, "a lane is judged by its clocks")
        return verdict

    @rule(holder=holders, dead=st.booleans(), silent=st.booleans())
    def keeper_looks_at_a_run(self, holder: Holder, dead: bool, silent: bool) -> None:
        """Hastily: the run has written since. Or its worker was found dead, silent or not."""
        if silent:
            self.scene.clock.advance(self.scene.settings.worker_dead_seconds)
        if dead:
            holder.known.killed.add(holder.fence.run_id)
        run_id = holder.fence.run_id if dead else None
        self.look_at(holder.known, holder.fence.lane, run_id)

    @rule(target=holders, holder=holders, patient=st.booleans())
    def run_goes_silent(self, holder: Holder, patient: bool):
        return self.go_silent(holder, patient=patient)

    def go_silent(self, holder: Holder, *, patient: bool):
        """Reaped, and another worker takes what is next; the old one knows nothing of it."""
        self.scene.clock.advance(self.scene.settings.lease_seconds + 1)
        self.look_at(holder.known, holder.fence.lane)
        if patient:
            self.scene.clock.advance(self.scene.settings.max_retry_backoff_seconds)
        return self.take_first(holder.known, holder.fence.lane)

    @rule(jump=st.sampled_from([*JUMPS, -11.0, -1801.0]))
    def time_passes(self, jump: float) -> None:
        self.went_back = self.went_back or jump < 0
        self.scene.clock.advance(jump)
