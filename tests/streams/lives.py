"""The whole of a thread's life: what `machine` plays, and all that may become of a busy lane,
of broken runs, mute agents, and of a Redis that starts anew, comes back shorter or empty.

The row is played too: who projects, and who dies before, is for the rules to say.
"""

import contextlib
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import multiple, rule

from dispatch.errors import Conflict, Fenced, Gone, TooBusy
from dispatch.ids import EntryId
from dispatch.models import status
from dispatch.models.fold import fold
from dispatch.models.state import ThreadState
from dispatch.payloads.signals import Checkpoint
from dispatch.streams import keys, lanes
from tests.streams.machine import Holder, Known, Machine
from tests.streams.scene import ASSISTANT, Read

NOTHING = EntryId("")
WAYS = ["reject", "interrupt", "rollback", "steer", "write"]
KEYS = "abcdefgh"
lane_numbers = st.sampled_from([0, 1])


@dataclass
class Row:
    """A thread's row, as sub-jobs have it: each ending shows."""

    status: str = "idle"
    stream_id: EntryId = NOTHING


@dataclass
class Kept:
    """What Redis's disk held of a thread at some moment."""

    dumps: dict[str, bytes | None] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)


class Lives(Machine):
    """All rules together."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[object, Row] = {}
        self.kept: dict[object, Kept] = {}
        self.lost_at: dict[object, tuple[EntryId, EntryId]] = {}
        """Threads whose stream is shorter than their row: its last entry, and the row's."""
        self.delivered: set[tuple[object, str]] = set()
        self.scene.scripts.revalidate_with(self._revalidate)

    # --- busy lanes --------------------------------------------------------------------------

    @rule(
        target=Machine.dispatches,
        known=Machine.threads,
        key=st.sampled_from(KEYS),
        picked=st.sets(lane_numbers, min_size=1),
        way=st.sampled_from(WAYS),
        answer_lost=st.booleans(),
    )
    def accept_when_busy(self, known: Known, key: str, picked, way: str, answer_lost: bool):
        return self._accept_on_terms(known, key, picked, answer_lost=answer_lost, when_busy=way)

    @rule(
        target=Machine.dispatches,
        known=Machine.threads,
        key=st.sampled_from(KEYS),
        wanted=st.sampled_from(["idle", "running", "completed", "failed", "cancelled"]),
    )
    def accept_if_status(self, known: Known, key: str, wanted: str):
        before = self._state(known)
        is_new = key not in known.accepted
        born = self._accept_on_terms(known, key, {0}, if_status=(wanted,))
        if is_new and key in known.accepted:
            assert status.thread_status(before, is_sub_job=True) == wanted
        return born

    def _accept_on_terms(self, known: Known, key: str, picked, *, answer_lost=False, **terms):
        agents = [self.lanes[number] for number in sorted(picked)]
        before = None if known.deleted else self._state(known)
        call = {"key": key, "text": key, "is_sub_job": True, **terms}
        self.touch(known)
        try:
            accepted = self.play(self.scene.accept(known.thread_id, *agents, **call))
            if answer_lost:
                again = self.play(self.scene.accept(known.thread_id, *agents, **call))
                assert (again.entry_id, again.dispatches) == (
                    accepted.entry_id,
                    accepted.dispatches,
                )
        except Gone:
            assert known.deleted
            return multiple()
        except TooBusy:
            return multiple()
        except Conflict:
            assert before is not None
            assert fold(self._stream(known)).seq == self._state(known).seq
            return multiple()
        if accepted.duplicate:
            assert accepted.entry_id == known.accepted[key].entry_id
            return multiple()
        assert key not in known.accepted, "the same key never makes a second entry"
        if terms.get("when_busy") == "reject":
            busy = {lane for lane, held in before.lanes.items() if held.has_work}
            assert busy.isdisjoint(map(str, agents)), "a busy lane refuses"
        known.accepted[key] = accepted
        known.acknowledged.add(accepted.entry_id)
        return multiple(*[(known, dispatch_id) for dispatch_id, _ in accepted.dispatches])

    @rule(holder=Machine.holders, step=st.integers(1, 3), answer_lost=st.booleans())
    def take(self, holder: Holder, step: int, answer_lost: bool) -> None:
        known = self.touch(holder.known)
        try:
            taken = self.play(self.scene.take(holder.fence, holder.n + 1, step))
            if answer_lost and taken.entries:
                assert self.play(self.scene.take(holder.fence, holder.n + 1, step)) == taken
        except Fenced:
            return
        for dispatch_id, entry in taken.entries:
            assert entry
            assert (known.thread_id, dispatch_id) not in self.delivered, "delivered once"
            self.delivered.add((known.thread_id, dispatch_id))
        holder.n += len(taken.entries)

    @rule(
        target=Machine.holders,
        known=Machine.threads,
        keys_=st.lists(st.sampled_from(KEYS), min_size=3, max_size=3, unique=True),
        lane=lane_numbers,
        fate=st.sampled_from(["lives", "lost", "overtaken", "ends"]),
    )
    def a_turn_is_steered(self, known: Known, keys_: list[str], lane: int, fate: str):
        """A turn runs, an entry is posted to steer it, and then comes what must come."""
        self._accept(known, keys_[0], {lane}, answer_lost=False)
        holder = self._claim(known, self.lanes[lane], answer_lost=False)
        if not isinstance(holder, Holder):
            return multiple()
        self._accept_on_terms(known, keys_[1], {lane}, when_busy="steer")
        match fate:
            case "lost":
                self.run_goes_silent(holder)
            case "overtaken":
                self.scene.clock.advance(self.scene.settings.lease_seconds + 1)
                self._expire(known, holder.fence.lane)
                self._accept_on_terms(known, keys_[2], {lane}, when_busy="interrupt")
            case "ends":
                self.finish(holder, [], "completed", None, answer_lost=False)
        newer = self._claim(known, self.lanes[lane], answer_lost=False)
        holder = newer if isinstance(newer, Holder) else holder
        self.take(holder, 1, answer_lost=True)
        return holder

    @rule(dispatch=Machine.dispatches)
    def withdraw(self, dispatch) -> None:
        self._withdraw(*dispatch)

    @rule(holder=Machine.holders)
    def withdraw_what_started(self, holder: Holder) -> None:
        self._withdraw(holder.known, holder.fence.dispatch_id)

    def _withdraw(self, known: Known, dispatch_id) -> None:
        self.touch(known)
        with contextlib.suppress(Gone):
            word = self.play(self.scene.cancel(known.thread_id, dispatch_id, only_queued=True))
            assert word != "requested", "what has started is not withdrawn"

    # --- runs that break down, and agents that are mute --------------------------------------

    @rule(holder=Machine.holders)
    def retry(self, holder: Holder) -> None:
        self.touch(holder.known)
        with contextlib.suppress(Fenced):
            self.play(self.scene.retry(holder.fence))

    @rule(known=Machine.threads, key=st.sampled_from(KEYS), lane=lane_numbers)
    def breaks_down_after_words(self, known: Known, key: str, lane: int) -> None:
        holder = self.claim_and_write(known, lane, key, [ASSISTANT])
        if isinstance(holder, Holder):
            self.retry(holder)
            self.scene.clock.advance(self.scene.settings.max_retry_backoff_seconds)
            self._claim(known, self.lanes[lane], answer_lost=False)

    @rule(
        target=Machine.holders,
        known=Machine.threads,
        key=st.sampled_from(KEYS),
        lane=lane_numbers,
        word=st.sampled_from(["release", "retry"]),
    )
    def asked_to_end_while_it_breaks(self, known: Known, key: str, lane: int, word: str):
        """A cancel is never undone by giving the dispatch back."""
        self._accept(known, key, {lane}, answer_lost=False)
        holder = self._claim(known, self.lanes[lane], answer_lost=False)
        if not isinstance(holder, Holder):
            return multiple()
        self.play(self.scene.cancel(known.thread_id, holder.fence.dispatch_id))
        told = self.play(getattr(self.scene, word)(holder.fence))
        assert told == "cancelling"
        return holder

    @rule(holder=Machine.holders, dies=st.booleans())
    def checkpoint(self, holder: Holder, dies: bool) -> None:
        fence = holder.fence
        point = Checkpoint(dispatch_id=fence.dispatch_id, run_id=fence.run_id, state={"n": 1})
        self.append(holder, [ASSISTANT, point], answer_lost=False)
        if dies:
            self.worker_found_dead(holder)

    @rule(holder=Machine.holders, minutes=st.sampled_from([1, 6, 17]))
    def agent_is_mute(self, holder: Holder, minutes: int) -> None:
        self._mute(holder, minutes)

    @rule(known=Machine.threads, key=st.sampled_from(KEYS), lane=lane_numbers)
    def a_turn_says_nothing(self, known: Known, key: str, lane: int) -> None:
        self._accept(known, key, {lane}, answer_lost=False)
        holder = self._claim(known, self.lanes[lane], answer_lost=False)
        if isinstance(holder, Holder):
            self._mute(holder, 17)

    def _mute(self, holder: Holder, minutes: int) -> None:
        """It beats all the while; keepers look."""
        known = self.touch(holder.known)
        for _ in range(minutes):
            self.scene.clock.advance(60)
            with contextlib.suppress(Fenced):
                self.play(self.scene.renew(holder.fence))
            self._expire(known, holder.fence.lane)
        if minutes * 60 > self.scene.settings.progress_timeout_seconds + 60:
            held = self._state(known).lanes.get(str(holder.fence.lane))
            run = held.run if held is not None else None
            assert run is None or run.run_id != holder.fence.run_id, "it is stopped"

    # --- rows --------------------------------------------------------------------------------

    def _row(self, known: Known) -> Row:
        return self.rows.setdefault(known.thread_id, Row())

    @rule(known=Machine.threads)
    def project(self, known: Known) -> None:
        if known.deleted:
            return
        state, row = self._state(known), self._row(known)
        if row.stream_id < state.mark:
            row.stream_id = state.mark
            row.status = status.thread_status(state, is_sub_job=True)
        self.play(lanes.projected(self.scene.scripts, known.thread_id, state.mark))

    def _claim(self, known: Known, lane, answer_lost: bool):
        """The row is the witness: it is told before the run does anything."""
        holder = super()._claim(known, lane, answer_lost)
        if isinstance(holder, Holder):
            self.project(known)
        return holder

    # --- a Redis that forgets ----------------------------------------------------------------

    @rule()
    def redis_restarts(self) -> None:
        self.scene.restart_redis()

    @rule(known=Machine.threads)
    def disk_is_written(self, known: Known) -> None:
        redis, thread_id = self.scene.redis, known.thread_id
        names = [
            keys.stream(thread_id),
            keys.state(thread_id),
            keys.idempotency(thread_id),
            keys.idempotency_ages(thread_id),
        ]
        due = {
            member.decode(): score
            for member, score in redis.zrange(keys.DUE, 0, -1, withscores=True)
            if member.decode().startswith(str(thread_id))
        }
        self.kept[thread_id] = Kept({name: redis.dump(name) for name in names}, due)

    @rule(known=Machine.threads)
    def redis_comes_back_shorter(self, known: Known) -> None:
        """It has of this thread what its disk had; the row has what it had seen."""
        kept = self.kept.get(known.thread_id)
        if kept is None or known.deleted:
            return
        self._forget_due(known)
        for name, dump in kept.dumps.items():
            self.scene.redis.delete(name)
            if dump is not None:
                self.scene.redis.restore(name, 0, dump)
        if kept.due:
            self.scene.redis.zadd(keys.DUE, kept.due)
        self.scene.restart_redis()
        self._forgotten(known)

    @rule(known=Machine.threads, sure=st.integers(0, 9))
    def redis_is_flushed(self, known: Known, sure: int) -> None:
        if known.deleted or not self._row(known).stream_id or sure not in {3, 7}:
            return
        self._forget_due(known)
        for name in self.scene.keys_of(known.thread_id):
            self.scene.redis.delete(name)
        self._forgotten(known)
        self.play(self._revalidate(known.thread_id))

    @rule(
        target=Machine.holders,
        known=Machine.threads,
        key=st.sampled_from(KEYS),
        lane=lane_numbers,
        is_posted_to=st.booleans(),
    )
    def a_whole_turn_is_forgotten(self, known: Known, key: str, lane: int, is_posted_to: bool):
        """Accepted on disk; claimed, seen by followers, perhaps ended: all lost."""
        self._accept(known, key, {lane}, answer_lost=False)
        self.disk_is_written(known)
        holder = self._claim(known, self.lanes[lane], answer_lost=False)
        if isinstance(holder, Holder):
            self.append(holder, [ASSISTANT], answer_lost=False)
        self.redis_comes_back_shorter(known)
        if is_posted_to:
            self._accept(known, "z", {lane}, answer_lost=False)
        return self._claim(known, self.lanes[lane], answer_lost=False)

    def _forget_due(self, known: Known) -> None:
        for member in self.scene.redis.zrange(keys.DUE, 0, -1):
            if member.decode().startswith(str(known.thread_id)):
                self.scene.redis.zrem(keys.DUE, member)

    def _forgotten(self, known: Known) -> None:
        """What the outside was told is compared from here on with what is left."""
        stream = self._stream(known)
        left = {entry.id for entry in stream}
        known.acknowledged &= left
        forgotten = [key for key, each in known.accepted.items() if each.entry_id not in left]
        for key in forgotten:
            del known.accepted[key]
        self.touch(known)
        last, witness = stream[-1].id if stream else NOTHING, self._row(known).stream_id
        if last < witness:
            self.lost_at[known.thread_id] = (last, witness)

    async def _revalidate(self, thread_id) -> None:
        row = self.rows.setdefault(thread_id, Row())
        await self.scene.revalidate(
            thread_id, row.stream_id, was_running=row.status == "running"
        )

    # --- promises ----------------------------------------------------------------------------

    def _check(self, known: Known, fields: dict[str, str], stream: list[Read]) -> None:
        super()._check(known, fields, stream)
        if known.deleted:
            self.lost_at.pop(known.thread_id, None)
            return
        state, row = fold(stream), self._row(known)
        self._check_forgotten(known, stream)
        tells = status.thread_status(state, is_sub_job=True)
        is_dirty = self.scene.redis.zscore(keys.DIRTY, str(known.thread_id)) is not None
        if not state.has_work and known.thread_id not in self.lost_at:
            assert row.status == tells or is_dirty, "a row that lags is known to lag"

    def _check_forgotten(self, known: Known, stream: list[Read]) -> None:
        last, witness = self.lost_at.get(known.thread_id, (None, NOTHING))
        if last is None:
            return
        newer = [entry for entry in stream if entry.id > last]
        if not newer:
            return
        assert type(newer[0].payload).__name__ == "StreamRollback", "it is told before all else"
        assert newer[0].id > witness, "ids never come again"
        del self.lost_at[known.thread_id]

    def _stream(self, known: Known) -> list[Read]:
        return self.scene.snapshot([known.thread_id])[0][1]

    def _state(self, known: Known) -> ThreadState:
        return self.play(self.scene.state(known.thread_id))
