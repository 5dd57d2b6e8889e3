"""Rules of people: they create, post by every busy policy, cancel, withdraw, delete."""

import contextlib
from typing import Final

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, multiple, precondition, rule
from msgspec.structs import replace

from dispatch.config import Settings
from dispatch.errors import Conflict, Gone
from dispatch.ids import AgentId, DispatchId
from dispatch.models import policies
from dispatch.models.state import ThreadState
from dispatch.payloads.signals import Cancelled
from dispatch.streams.threads import Accepted, Terms
from tests.streams import oracle
from tests.streams.lives import LANES, Known, Life, dispatches, known_threads

POLITE: Final = replace(policies.of({}, Settings()), max_attempts=2)
POLICIES: Final = [
    POLITE,
    replace(POLITE, repeatable=True),
    replace(POLITE, warn_ms=100_000, progress_ms=200_000),
    replace(POLITE, warn_ms=0, progress_ms=0, max_attempts=1),
]
BUSY: Final = ["enqueue", "reject", "interrupt", "rollback", "steer", "write"]
ON_ANY_TERMS: Final = Terms()


class People(Life):
    """Whoever has a say in a thread."""

    @initialize(target=known_threads)
    def first_threads(self):
        return multiple(self._create(), self._create())

    @precondition(lambda self: len(self.known) < 5)
    @rule(target=known_threads)
    def create(self) -> Known:
        return self._create()

    def _create(self) -> Known:
        thread_id = self.play(self.scene.create())
        self.known.append(Known(thread_id))
        return self.touch(self.known[-1])

    @rule(
        target=dispatches,
        known=known_threads,
        key=st.sampled_from("abcdefgh"),
        lanes=st.lists(LANES, max_size=3),
        when_busy=st.sampled_from(BUSY),
        if_status=st.sampled_from([(), (), ("idle", "completed"), ("running", "failed")]),
        policy=st.sampled_from(POLICIES),
        answer_lost=st.booleans(),
    )
    def accept(self, known, key, lanes, when_busy, if_status, policy, answer_lost):
        terms = Terms(when_busy=when_busy, if_status=if_status, is_sub_job=True)
        agents = [self.lane(number) for number in lanes]
        return self.post(known, key, agents, terms, policy=policy, answer_lost=answer_lost)

    def post(
        self,
        known: Known,
        key: str,
        agents: list[AgentId],
        terms: Terms = ON_ANY_TERMS,
        *,
        policy=POLITE,
        answer_lost: bool = False,
    ):
        """Post an entry as `operations.post_entry` does, against the oracle."""
        if key in known.burned:
            key = self.new_key()
        call = {"key": key, "text": key, "policy": policy, **msgspec.structs.asdict(terms)}
        self.touch(known)
        if self.is_missing(known):
            self.open_anew(known)
        before = self.look(known)
        accepted, word = self.attempt(self.scene.accept(known.thread_id, *agents, **call))
        if known.deleted:
            assert word == "GONE", "what is deleted stays deleted"
            return multiple()
        state, new = self.since(known, before)
        if key in known.accepted:
            first = replace(known.accepted[key], duplicate=True)
            self.agree(accepted, first, "the same key, the same entry")
            self.agree(list(new), [], "the same key, the same entry")
            self._another_body(known, key)
            return multiple()
        refused = oracle.refusal(state, agents, terms, self.scene.settings)
        told = [] if refused else oracle.receipts(state, agents, terms)
        if accepted is not None:
            self._accepted(known, key, accepted)
        self.agree(word, refused or "OK", "busy lanes and statuses are judged as they are")
        self.agree(oracle.read_receipts(new), told, "a busy lane does what was chosen")
        if accepted is None:
            return multiple()
        if answer_lost:
            again = self.play(self.scene.accept(known.thread_id, *agents, **call))
            first = replace(accepted, duplicate=True)
            self.agree(again, first, "the same key, the same entry")
        return multiple(*[(known, dispatch_id) for dispatch_id, _ in accepted.dispatches])

    def _accepted(self, known: Known, key: str, accepted: Accepted) -> None:
        known.accepted[key] = accepted
        known.acknowledged.add(accepted.entry_id)

    def _another_body(self, known: Known, key: str) -> None:
        with contextlib.suppress(Conflict):
            self.play(self.scene.accept(known.thread_id, key=key, text="other"))
            raise AssertionError("a key stands for one body")

    def is_missing(self, known: Known) -> bool:
        return known.lost and not known.deleted

    def open_anew(self, known: Known) -> None:
        """As `operations.open_stream` does: the row knows whether there was a stream."""
        self.touch(known)
        if known.mark or self.scene.shelf.last(known.thread_id):
            self.play(self.revalidate(known.thread_id))
        else:
            self.play(self.scene.create(known.thread_id))
            self.scene.threads.pop()
            known.lost = False

    @rule(
        target=dispatches,
        known=known_threads,
        lane=LANES,
        choices=st.lists(st.sampled_from(BUSY[1:]), min_size=1, max_size=3),
    )
    def post_into_a_turn(self, known: Known, lane: int, choices: list[str]):
        """The lane runs; entries come one after the other, each with a choice of its own."""
        known, agent_id = self.living(known), self.lane(lane)
        self.post(known, self.new_key(), [agent_id])
        self.play(self.scene.claim(known.thread_id, agent_id))
        for when_busy in choices:
            terms = Terms(when_busy=when_busy)
            born = self.post(known, self.new_key(), [agent_id, agent_id], terms)
        return born

    @rule(known=known_threads, lane=LANES, only_queued=st.booleans(), others=st.integers(0, 2))
    def think_better_of_it(
        self, known: Known, lane: int, only_queued: bool, others: int
    ) -> None:
        """The row is up to date; an entry is posted behind others, then not wanted any more."""
        if others == 0 and len(self.known) < 8:
            known = self._create()  # in which nothing else goes on
        known, agent_id = self.living(known), self.lane(lane)
        for _ in range(others):
            self.post(known, self.new_key(), [agent_id])
        self.play(self.project(known))
        for posted in self.post(known, self.new_key(), [agent_id]).values:
            self.end_dispatch(*posted, only_queued=only_queued)

    @rule(dispatch=dispatches, only_queued=st.booleans(), answer_lost=st.booleans())
    def cancel(
        self, dispatch: tuple[Known, DispatchId], only_queued: bool, answer_lost: bool
    ) -> None:
        self.end_dispatch(*dispatch, only_queued=only_queued, answer_lost=answer_lost)

    def end_dispatch(
        self, known: Known, dispatch_id: DispatchId, *, only_queued=False, answer_lost=False
    ) -> None:
        """Cancel a dispatch, or withdraw it, against the oracle."""
        self.touch(known)
        before = self.look(known)
        call = {"only_queued": only_queued}
        answer, word = self.attempt(self.scene.cancel(known.thread_id, dispatch_id, **call))
        if known.deleted or self.is_missing(known):
            assert word in {"GONE", "NO_THREAD"}, "what is deleted stays deleted"
            return
        state, new = self.since(known, before)
        expected = _cancels(state, dispatch_id, only_queued=only_queued)
        self.agree(answer, expected, "a cancel ends what waits and asks what runs")
        if expected in {"none", "running"}:
            self.agree(list(new), [], "what has ended, or started, is not withdrawn")
        if expected == "cancelled":
            told = new[0].payload
            assert isinstance(told, Cancelled), "a cancel ends what waits and asks what runs"
            assert told.reason == ("withdrawn" if only_queued else "before_start")
        if answer_lost:
            again = self.play(self.scene.cancel(known.thread_id, dispatch_id, **call))
            first = "none" if answer == "cancelled" else answer
            self.agree(again, first, "a cancel ends what waits and asks what runs")

    @rule(known=known_threads, sure=st.integers(0, 9))
    def delete(self, known: Known, sure: int) -> None:
        if sure not in {2, 5}:
            return
        known.deleted = True
        self.touch(known)
        self.play(self.scene.delete(known.thread_id))
        with contextlib.suppress(Gone):
            self.play(self.scene.create(known.thread_id))
            raise AssertionError("what is deleted stays deleted")
        self.scene.threads.pop()


def _cancels(state: ThreadState, dispatch_id: DispatchId, *, only_queued: bool) -> str:
    dispatch = state.dispatches.get(dispatch_id)
    if dispatch is None:
        return "none"
    run = state.lanes[dispatch.lane].run
    if run is None or run.dispatch_id != dispatch_id:
        return "cancelled"
    return "running" if only_queued else "requested"
