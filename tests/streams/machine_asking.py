"""Rules of turns that ask: they ask, wait without a worker, are answered, go on."""

from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, multiple, rule

from dispatch.errors import Fenced
from dispatch.ids import DispatchId
from dispatch.payloads.signals import (
    DelegationEnded,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
)
from dispatch.streams.threads import Terms
from tests.streams import oracle
from tests.streams.lives import LANES, Holder, Known, holders, known_threads
from tests.streams.machine_keepers import Keepers
from tests.streams.machine_people import POLICIES
from tests.streams.scene import CALLS


@dataclass(frozen=True)
class Asked:
    """A question, as whoever may answer it remembers it for ever."""

    known: Known
    dispatch_id: DispatchId
    ask_id: str
    is_delegation: bool


questions = Bundle("questions")
CALL_IDS: Final = st.sampled_from(["1", 'ä "2" %,'])
SECONDS: Final = st.sampled_from([20, 55, 300])
"""The longest is for tasks: whoever waits for another thread is looked at meanwhile."""
LATER: Final = ["grant", "deny", "over", "again", "expire", "claim", "wait", "release"]
TAKERS: Final = tuple(oracle.TAKE_PLACE)
WORDS: Final = st.sampled_from(["grant", "deny", "over"])


class Asking(Keepers):
    """Whoever asks, and whoever answers."""

    @rule(target=questions, holder=holders, call_id=CALL_IDS, seconds=SECONDS)
    def ask(self, holder: Holder, call_id: str, seconds: int):
        return self.put(holder, call_id, seconds)

    def put(self, holder: Holder, call_id: str = "1", seconds: int = 20):
        """Ask with the next sequence; the answer to that gets lost, so it is asked again."""
        self.touch(holder.known)
        fence, n = holder.fence, holder.n + 1
        kind = "delegation" if seconds == 300 else "permission"
        try:
            ask_id = self.play(self.scene.ask(fence, n, call_id, seconds=seconds, kind=kind))
            is_new = self.scene.scripts.word == "OK"
            self.play(self.scene.ask(fence, n, call_id, seconds=seconds, kind=kind))
        except Fenced:
            self.refused(holder)
            return multiple()
        again = self.scene.scripts.word
        self.agree(again, "DUPLICATE", "a question is asked once")
        if not is_new:
            return multiple()  # a Redis that forgot has seen another event of this number
        holder.n = n
        holder.last_id = self.look(holder.known)[-1].id
        holder.known.acknowledged.add(holder.last_id)
        return Asked(holder.known, fence.dispatch_id, ask_id, kind == "delegation")

    @rule(holder=holders)
    def wait(self, holder: Holder) -> None:
        self.leave(holder)

    def leave(self, holder: Holder) -> None:
        """Wait without a worker, against the oracle."""
        known, fence = holder.known, holder.fence
        self.touch(known)
        before = self.look(known)
        try:
            word = self.play(self.scene.wait(fence))
        except Fenced:
            return
        state, _ = self.since(known, before)
        expected = oracle.leaving(state, str(fence.lane), fence.text)
        self.agree(word, expected, "a turn waits while a question of it is open")

    @rule(asked=questions, word=WORDS, answer_lost=st.booleans())
    def answer(self, asked: Asked, word: str, answer_lost: bool) -> None:
        self.tell(asked, word)
        if answer_lost:
            self.tell(asked, word)

    def tell(self, asked: Asked, word: str) -> None:
        """Answer a question, against the oracle."""
        known = asked.known
        self.touch(known)
        if self.is_missing(known):
            self.open_anew(known)
        before = self.look(known)
        found, refusal = self.attempt(self.scene.answer(known.thread_id, _told(asked, word)))
        if known.deleted:
            assert refusal == "GONE", "what is deleted stays deleted"
            return
        state, _ = self.since(known, before)
        now_ms = self.scene.clock.now_ms
        is_over = word == "over"
        expected = oracle.answering(
            state, asked.dispatch_id, asked.ask_id, now_ms=now_ms, is_over=is_over
        )
        self.agree(str(found), expected, "a question has one answer")

    @rule(
        target=holders,
        known=known_threads,
        lane=LANES,
        asks=st.lists(SECONDS, min_size=1, max_size=3),
        leaves=st.sampled_from([True, True, False]),
        policy=st.sampled_from([POLICIES[0], POLICIES[1], POLICIES[1]]),
        cancelled=st.sampled_from([False, False, False, True]),
        then=st.lists(
            st.sampled_from([*LATER, *TAKERS, 25]),
            max_size=6,
        ),
    )
    def a_turn_asks(self, known, lane, asks, then, **how):
        """A turn asks, waits for the answers, and then comes what may."""
        return self.turn_asks(known, lane, asks, then=then, **how)

    def turn_asks(
        self,
        known: Known,
        lane: int,
        asks,
        *,
        policy=POLICIES[1],
        leaves=True,
        cancelled=False,
        then=(),
    ):
        known = self.living(known)
        holder = self.hold(known, self.lane(lane), policy=policy)
        if not isinstance(holder, Holder):
            return multiple()
        self.write(holder, [CALLS])
        put = [self.put(holder, "1", seconds) for seconds in asks]
        left = [each for each in put if isinstance(each, Asked)]
        if cancelled:
            self.end_dispatch(known, holder.fence.dispatch_id)
        if leaves:
            self.leave(holder)
        for word in then:
            holder = self._then(holder, word, put, left)
        return holder

    def _then(self, holder: Holder, word: str | int, put: list, left: list) -> Holder:
        """Args: put: what was asked. left: what of it nobody has answered here yet."""
        if isinstance(word, int):
            self.scene.clock.advance(word)
        elif word in {"expire", "claim", "wait", "release"}:
            return self._somebody_does(holder, word)
        elif word in TAKERS:
            terms = Terms(when_busy=word)
            self.post(holder.known, self.new_key(), [holder.fence.lane], terms)
        elif word == "again":
            for asked in put:
                if isinstance(asked, Asked) and asked not in left:
                    self.tell(asked, "deny")
        elif left:
            self.tell(left.pop(0), word)
        return holder

    def _somebody_does(self, holder: Holder, word: str) -> Holder:
        known, agent_id = holder.known, holder.fence.lane
        if word == "expire":
            self.look_at(known, agent_id)
        elif word == "wait":
            self.leave(holder)
        elif word == "release":
            self.holder_does(holder, "release")
        else:
            newer = self.take_first(known, agent_id)
            holder = newer if isinstance(newer, Holder) else holder
        return holder


def _told(asked: Asked, word: str):
    if asked.is_delegation:
        status = {"grant": "completed", "deny": "failed"}.get(word, "expired")
        return DelegationEnded(
            delegation_id=asked.ask_id, dispatch_id=asked.dispatch_id, status=status
        )
    place = {"permission_id": asked.ask_id, "dispatch_id": asked.dispatch_id}
    match word:
        case "grant":
            return PermissionGranted(**place)
        case "deny":
            return PermissionDenied(**place)
        case _:
            return PermissionExpired(**place, default="deny")
