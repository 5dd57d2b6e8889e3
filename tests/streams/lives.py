"""What every rule of the machine builds on: what the outside knows, what always holds."""

import asyncio
import sys
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant

from dispatch.errors import ArbeError
from dispatch.ids import AgentId, EntryId, RunId, ThreadId
from dispatch.models.fold import fold
from dispatch.models.state import ThreadState, from_fields, to_fields
from dispatch.models.status import thread_status
from dispatch.payloads.signals import Failed, SessionOrphaned, StreamRollback
from dispatch.streams import archives, keys, lanes, threads
from dispatch.streams.runs import Fence
from dispatch.streams.threads import Accepted
from tests.streams import places
from tests.streams.forgetting import NOTHING, Backup
from tests.streams.listening import Channels
from tests.streams.promises import Witness
from tests.streams.scene import Read, Scene, new_lane

Result = TypeVar("Result")


@dataclass(frozen=True)
class Copy:
    """A backup of one thread, and what the outside knew when it was made."""

    backup: Backup = NOTHING
    last: str = ""
    """Its last entry."""
    newest: str = ""
    """The last id it ever gave."""
    rollbacks: int = 0
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    acknowledged: Collection[EntryId] = frozenset()


@dataclass
class Known:
    """What the outside knows of one thread."""

    thread_id: ThreadId
    deleted: bool = False
    lost: bool = False
    """True: Redis holds nothing of it, and has not been told yet that there was something."""
    is_lossy: bool = False
    """True: Redis has lost something of it, perhaps more than any row can prove."""
    compacted: bool = False
    accepted: dict[str, Accepted] = field(default_factory=dict)
    acknowledged: set[EntryId] = field(default_factory=set)
    killed: set[RunId] = field(default_factory=set)
    unfinished: set[str] = field(default_factory=set)
    """Its lanes with work, as the due index must name them."""
    mark: str = ""
    """The watermark of its row, which is a sub-job's: the witness."""
    status: str = "idle"
    """What its row says."""
    copy: Copy = field(default_factory=Copy)
    owed: str | None = None
    """The last entry that Redis kept, when the row knows of more: that must be told next."""
    rollbacks: int = 0
    """How often that was told."""
    burned: set[str] = field(default_factory=set)
    """Keys that Redis forgot though their entries are archived: nobody uses them again."""


@dataclass
class Holder:
    """A worker that was given a fence, and believes in it for ever."""

    known: Known
    fence: Fence
    last_id: EntryId
    """The last entry that it was told to stand."""
    n: int = 0


known_threads = Bundle("threads")
holders = Bundle("holders")
dispatches = Bundle("dispatches")
LANES = st.sampled_from([0, 1, 2])
"""Two lanes that everybody shares, and one that nobody has used yet."""


class Life(RuleBasedStateMachine):
    """No rules yet; subclasses add them, and say on which scene they play."""

    scene: Scene
    runner: asyncio.Runner
    channels: Channels

    def __init__(self) -> None:
        super().__init__()
        self.scene.threads.clear()
        self.scene.shelf.clear()
        self.scene.scripts.revalidate_with(self.revalidate)
        self.shared = [new_lane(), new_lane()]
        self.keys_made = 0
        self.known: list[Known] = []
        self.touched: set[int] = set()
        self.went_back = False
        """True: the clock did; what was to be looked at soon is now far away."""
        self.channels.clear()

    def play(self, call: Awaitable[Result]) -> Result:
        return self.runner.run(call)

    def attempt(self, call: Awaitable[Result]) -> tuple[Result | None, str]:
        """Return what a transition gave, if it did not refuse, and its word."""
        try:
            result = self.play(call)
        except ArbeError:
            result = None
        return result, self.scene.scripts.word

    def lane(self, number: int) -> AgentId:
        return self.shared[number] if number < len(self.shared) else new_lane()

    def new_key(self) -> str:
        self.keys_made += 1
        return f"key {self.keys_made}"

    def living(self, known: Known) -> Known:
        """Return the thread, or one that was not deleted if there is any."""
        return next((each for each in (known, *self.known) if not each.deleted), known)

    def agree(self, found: object, expected: object, promise: str) -> None:
        """Assert that two are the same; but whatever else is broken is told first."""
        if found != expected:
            self.every_promise_holds()
            raise AssertionError(f"{promise}: {found} is not {expected}")

    def touch(self, known: Known) -> Known:
        self.touched.add(self.known.index(known))
        return known

    def look(self, known: Known) -> list[Read]:
        """Return the thread's stream now."""
        ((_, stream),) = self.scene.snapshot([known.thread_id])
        return stream

    def since(self, known: Known, before: Sequence[Read]) -> tuple[ThreadState, Sequence[Read]]:
        """Return what came after `before`, and the state it came upon.

        A rollback that had to be told first is part of the latter.
        """
        last = before[-1].id if before else ""
        stream = self.look(known)
        new = [entry for entry in stream if entry.id > last]
        of_rollback = [place for place, entry in enumerate(new, 1) if _is_of_rollback(entry)]
        told = of_rollback[-1] if of_rollback else 0
        return fold([*before, *new[:told]]), new[told:]

    # --- the row -----------------------------------------------------------------------------

    async def revalidate(self, thread_id: ThreadId) -> None:
        """Do as `operations.revalidate` does, with the machine's row."""
        known = next(known for known in self.known if known.thread_id == thread_id)
        shelf, wire = self.scene.shelf, self.scene.connection
        before = await archives.pointer(wire, thread_id)
        is_shorter = await threads.revalidate(
            self.scene.scripts,
            thread_id,
            witness=EntryId(max(known.mark, shelf.last(thread_id) or "")),
            was_running=known.status == "running",
            archived=self.archived_fields(thread_id) if known.lost else {},
        )
        self.touch(known)
        if is_shorter:
            if not known.lost:
                shelf.forget_beyond(thread_id, before.last_id)
            known.lost = False
            await self.project(known)

    def archived_fields(self, thread_id: ThreadId) -> dict[str, str]:
        """Return the state hash that the shelf's entries make."""
        last_id = self.scene.shelf.last(thread_id)
        if last_id is None:
            return {}
        past = self.scene.shelf.everything(thread_id, last_id)
        fields = to_fields(fold(map(Read.of, past)))
        return {**fields, "archived": f"{self.scene.clock.now_ms},{past[-1].id}"}

    async def project(self, known: Known) -> None:
        """Do as `operations.project` does, with the machine's row."""
        state = await self.scene.state(known.thread_id)
        if state.is_open and state.mark > known.mark:
            known.mark = state.mark
            known.status = thread_status(state, is_sub_job=True)
        await lanes.projected(self.scene.scripts, known.thread_id, state.mark)

    # --- promises ----------------------------------------------------------------------------

    @invariant()
    def every_promise_holds(self) -> None:
        touched = [self.known[index] for index in sorted(self.touched)]
        self.touched.clear()
        found = self.scene.snapshot([known.thread_id for known in touched])
        self.channels.listen()
        for known, (fields, stream) in zip(touched, found, strict=True):
            self._check(known, fields, stream)
        due = self.scene.due()
        assert set(due) == set().union(*(known.unfinished for known in self.known)), (
            "due holds exactly the unfinished lanes"
        )
        if not self.went_back:
            for known, (fields, _) in zip(touched, found, strict=True):
                places.looked_at_in_time(known.thread_id, from_fields(fields), due)

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
        if known.lost:
            assert not fields, "what is missing is not made anew in silence"
            return
        stands = {entry.id for entry in stream}
        assert known.acknowledged <= stands, "what was acknowledged stands"
        witness = self.witness(known, stream, compacted=known.compacted)
        self._told_what_is_lost(known, stream, witness)
        self.channels.check(known.thread_id, stream)
        assert witness.chats == dict.fromkeys(known.accepted, 1), "one entry per key"
        places.one_place_each(fields)
        assert from_fields(fields).usage == witness.usage, "usage is the sum of the runs'"
        assert to_fields(state) == fields, "the hash is the fold"
        assert from_fields(fields) == state, "the hash reads back as the fold"
        if not state.has_work and known.owed is None:
            lags = known.status != thread_status(state, is_sub_job=True)
            is_named = self.scene.redis.zscore(keys.DIRTY, str(known.thread_id)) is not None
            assert is_named or not lags, "a row that lags is known to lag"

    def witness(self, known: Known, stream: Sequence[Read], *, compacted: bool) -> Witness:
        dead_ms = int(self.scene.settings.worker_dead_seconds * 1000)
        return Witness(known.killed, dead_ms=dead_ms, compacted=compacted).read(stream)

    def _told_what_is_lost(self, known: Known, stream: list[Read], witness: Witness) -> None:
        if known.owed is not None:
            later = [entry for entry in stream if entry.id > known.owed]
            if later:
                assert isinstance(later[0].payload, StreamRollback), (
                    "nothing is written before a loss is told"
                )
                assert (later[0].payload.kept or "") == known.owed
                known.owed = None
                known.rollbacks += 1
        assert witness.rollbacks == known.rollbacks, "only a loss is told as one"

    # --- the end -----------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # else a promise is broken already
                self.come_to_rest()
        finally:
            for known in self.known:
                self.play(self.scene.delete(known.thread_id))
                self.scene.redis.delete(keys.state(known.thread_id))

    def come_to_rest(self) -> None:
        """Nobody works any more; keepers look at what is due until nothing is."""
        for _ in range(40):
            due = self.scene.due()
            if not due:
                break
            self.scene.clock.advance(self.scene.settings.start_timeout_seconds)
            for member in due:
                thread_id, _, lane = member.partition("|")
                self.play(self.scene.expire(ThreadId(UUID(thread_id)), AgentId(UUID(lane))))
        self.touched = set(range(len(self.known)))
        self.every_promise_holds()
        for known in self.known:
            witness = self.witness(known, self.look(known), compacted=True)
            assert witness.ended == set(witness.births), "at rest each dispatch has ended"


def _is_of_rollback(entry: Read) -> bool:
    match entry.payload:
        case StreamRollback():
            return True
        case Failed(reason=reason) | SessionOrphaned(reason=reason):
            return reason == "stream_rollback"
        case _:
            return False


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
