"""Whole scenes that faults make common, each as one rule: chance would seldom play them."""

from hypothesis import strategies as st
from hypothesis.stateful import multiple, rule

from dispatch.streams.threads import Terms
from tests.streams.lives import LANES, Holder, Known, holders, known_threads
from tests.streams.machine_asking import Asking
from tests.streams.machine_people import POLICIES, POLITE
from tests.streams.scene import ASSISTANT, CHUNK, RETRYING


class Scenes(Asking):
    """What happens to one run from its birth on."""

    @rule(
        target=holders,
        known=known_threads,
        lane=LANES,
        word=st.sampled_from(["append", "finish"]),
        seen=st.booleans(),
    )
    def old_holder_wakes_up(self, known: Known, lane: int, word: str, seen: bool):
        """With the worst luck: its next sequence fits."""
        old = self.hold(self.living(known), self.lane(lane))
        if not isinstance(old, Holder):
            return multiple()
        if seen:
            self.write(old, [ASSISTANT])
        newer = self.go_silent(old, patient=True)
        if word == "append":
            self.write(old, [RETRYING])
        else:
            self.end(old)
        return newer

    @rule(
        target=holders,
        known=known_threads,
        lane=LANES,
        how=st.lists(st.sampled_from(["release", "retry"]), min_size=1, max_size=3),
        before=st.sampled_from(["nothing", "asked", "seen", "seen", "checkpoint"]),
        policy=st.sampled_from([POLITE, POLITE, POLICIES[1]]),
        patient=st.sampled_from([True, True, False]),
    )
    def a_run_is_given_back(self, known, lane, how, before, policy, patient: bool):
        """Again and again, though it was seen, or asked to end."""
        known, agent_id = self.living(known), self.lane(lane)
        holder = self.hold(known, agent_id, policy=policy)
        for word in how:
            if not isinstance(holder, Holder):
                break
            if before == "asked":
                self.end_dispatch(known, holder.fence.dispatch_id)
            elif before != "nothing":
                self.write(holder, [ASSISTANT])
                if before == "checkpoint":
                    self.write(holder, [RETRYING], checkpoint=True)
            self.holder_does(holder, word)
            if patient:
                self.scene.clock.advance(self.scene.settings.max_retry_backoff_seconds)
            holder = self.take_first(known, agent_id)
        return holder

    @rule(
        target=holders,
        known=known_threads,
        lane=LANES,
        fate=st.sampled_from(["goes on", "given back", "overtaken", "ends", "withdrawn"]),
        more=st.booleans(),
    )
    def a_turn_is_steered(self, known: Known, lane: int, fate: str, more: bool):
        """A turn runs, an entry is posted to steer it, and then comes what must come."""
        known, agent_id = self.living(known), self.lane(lane)
        holder = self.hold(known, agent_id)
        if not isinstance(holder, Holder):
            return multiple()
        steer = Terms(when_busy="steer")
        born = self.post(known, self.new_key(), [agent_id], steer)
        if fate in {"given back", "overtaken"}:
            self.holder_does(holder, "release")
        if fate == "overtaken":
            self.post(known, self.new_key(), [agent_id], Terms(when_busy="interrupt"))
        if fate == "ends":
            self.end(holder)
        if fate == "withdrawn" and born.values:
            self.end_dispatch(*born.values[0], only_queued=True)
        newer = self.take_first(known, agent_id)
        holder = newer if isinstance(newer, Holder) else holder
        if more:
            self.post(known, self.new_key(), [agent_id], steer)
        self.take(holder, 1, answer_lost=True)
        return holder

    @rule(
        known=known_threads,
        lane=LANES,
        minutes=st.lists(
            st.sampled_from(["mute", "mute", "mute", "speaks", "asked", "withdrawn"]),
            max_size=6,
        ),
    )
    def agent_is_mute(self, known: Known, lane: int, minutes: list[str]) -> None:
        """Its run beats, its agent says nothing, or only now and then."""
        known = self.living(known)
        holder = self.hold(known, self.lane(lane), policy=POLICIES[2])
        if not isinstance(holder, Holder):
            return
        for minute in minutes:
            self.scene.clock.advance(60)
            if minute == "speaks":
                self.write(holder, [CHUNK])
            if minute in {"asked", "withdrawn"}:
                is_withdrawn = minute == "withdrawn"
                self.end_dispatch(known, holder.fence.dispatch_id, only_queued=is_withdrawn)
            self.holder_does(holder, "renew")
            self.look_at(known, holder.fence.lane)
