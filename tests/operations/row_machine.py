"""Random lives of a few rows and their streams, on a real Postgres and a real Redis.

Projectors, readers, sweeps and deletes are processes that stand still between any two of their
writes: they are overtaken, they die, and what one has read may be old when it writes. Old
writes come again. Streams go on meanwhile, are deleted, are lost and restored.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable

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

from dispatch.errors import ArbeError
from dispatch.ids import AgentId, ThreadId
from dispatch.models.fold import fold
from dispatch.models.state import ThreadState, from_fields
from dispatch.models.threads import Projection
from dispatch.operations import delete_thread, open_stream, project, prune, reconcile
from dispatch.operations.record import Record
from dispatch.payloads.signals import ThreadCreated
from dispatch.stores.postgres import engine, threads
from dispatch.streams import keys
from dispatch.streams import threads as streams
from tests.operations.row_world import Known, Row, World
from tests.operations.steps import Operation, Steps
from tests.streams import forgetting
from tests.streams.forgetting import NOTHING, Backup
from workers.sweeps import reconcile as reconcile_sweep

MAX_LIVING = 4
ENDINGS = [["post", "completed"], ["post", "failed"], ["post", "post", "cancel", "completed"]]
HAPPENINGS = [["post"], ["post", "run"], ["post", "run", "cancel"], ["silent"], *ENDINGS]
"""What a stream goes through while rows are looked at."""
ABOUT_ONE: dict[str, Callable[[Record, World, ThreadId], object]] = {
    "project": lambda record, _world, thread_id: project.project(record, thread_id),
    "reconcile": lambda record, _world, thread_id: reconcile.reconcile(record, thread_id),
    "open": lambda record, _world, thread_id: open_stream.open_stream(record, thread_id),
    "delete": lambda record, world, thread_id: delete_thread.delete_thread(
        record, world.casa.who, thread_id
    ),
}
ABOUT_ALL: dict[str, Callable[[Record, World], object]] = {
    "rows": lambda record, _world: reconcile_sweep.sweep(record),
    "sweep": lambda record, _world: prune.prune(record),
    "prune": lambda record, world: prune.prune(record, who=world.casa.who),
    "deletions": lambda record, _world: prune.finish_deletions(record),
}


class RowMachine(RuleBasedStateMachine):
    """The rules; subclasses say in which world they play."""

    world: World
    runner: asyncio.Runner
    written: list[tuple[Projection, ...]]
    """Every write a projector ever made, in this life."""

    threads = Bundle("threads")
    paused = Bundle("paused")

    def __init__(self) -> None:
        super().__init__()
        self.written.clear()
        self.known: list[Known] = []
        self.stopped: list[Steps] = []

    def play(self, call):
        return self.runner.run(call)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # else a promise is broken already
                self._rest()
        finally:
            for process in self.stopped:
                self.play(process.die())
            self.world.wipe([known.thread_id for known in self.known])

    # --- rows and streams are born -----------------------------------------------------------

    @initialize(target=threads)
    def first_threads(self):
        root = self._create(None, opened=True)
        return multiple(root, self._create(root, opened=True))

    @precondition(lambda self: self._living() < MAX_LIVING)
    @rule(target=threads, parent=st.none() | threads, opened=st.booleans())
    def create(self, parent: Known | None, opened: bool):
        return self._create(parent, opened=opened)

    def _living(self) -> int:
        return sum(not known.is_deleted for known in self.known)

    def _create(self, parent: Known | None, *, opened: bool):
        try:
            made = self.play(self.world.insert(parent.thread_id if parent else None))
        except ArbeError:
            assert parent is not None
            assert parent.is_deleted
            return multiple()
        known = Known(made, is_sub_job=parent is not None)
        self.known.append(known)
        self.world.scene.threads.append(made)
        if opened:
            self._open(known)
        return known

    @rule(known=threads)
    def creator_opens_late(self, known: Known) -> None:
        """Whoever inserted the row was asleep; the thread may be deleted by now."""
        if known.newest == "":
            self._open(known)

    def _open(self, known: Known) -> None:
        with contextlib.suppress(ArbeError):
            payload = ThreadCreated(name="t")
            self.play(streams.create(self.world.record.scripts, known.thread_id, payload))

    # --- what happens on streams meanwhile ---------------------------------------------------

    @rule(known=threads, steps=st.sampled_from(HAPPENINGS))
    def something_happens(self, known: Known, steps: list[str]) -> None:
        for step in steps:
            with contextlib.suppress(ArbeError):
                self.play(self.world.happen(known.thread_id, step))

    # --- processes ---------------------------------------------------------------------------

    @rule(
        target=paused,
        known=threads,
        word=st.sampled_from(["project", "project", "reconcile", "open"]),
        steps=st.integers(0, 3) | st.none(),
    )
    def somebody_looks_at_one(self, known: Known, word: str, steps: int | None):
        return self._start(self._about(known, word), steps)

    @rule(
        target=paused,
        word=st.sampled_from(["sweep", "rows", "sweep", "rows", "deletions", "prune"]),
        steps=st.integers(0, 6) | st.none(),
    )
    def somebody_looks_at_all(self, word: str, steps: int | None):
        return self._start(lambda record: ABOUT_ALL[word](record, self.world), steps)

    @rule(
        target=paused,
        known=threads,
        steps=st.integers(0, 5) | st.none(),
        sure=st.integers(0, 9),
    )
    def delete(self, known: Known, steps: int | None, sure: int):
        if sure not in {3, 7}:
            return multiple()
        return self._start(self._about(known, "delete"), steps)

    @rule(known=threads, steps=st.integers(1, 4), sure=st.integers(0, 4))
    def a_delete_dies_half_way(self, known: Known, steps: int, sure: int) -> None:
        if sure in {2, 3}:
            process = self.play(self._started(self._about(known, "delete")))
            self.play(process.go(steps))
            self.play(process.die())

    @rule(target=threads, parent=threads, sure=st.integers(0, 9))
    def a_child_is_born_during_the_delete(self, parent: Known, sure: int):
        if sure != 1 or parent.is_deleted or self._living() >= MAX_LIVING:
            return multiple()
        born = self.play(self.world.born_during_the_delete(parent.thread_id))
        self.known.append(Known(born, is_sub_job=True))
        return self.known[-1]

    def _about(self, known: Known, word: str) -> Operation:
        return lambda record: ABOUT_ONE[word](record, self.world, known.thread_id)

    def _start(self, operation: Operation, steps: int | None):
        process = self.play(self._started(operation))
        self.stopped.append(process)
        return self._go(process, steps)

    async def _started(self, operation: Operation) -> Steps:
        return Steps(self.world.record, operation)

    def _go(self, process: Steps, steps: int | None):
        self.play(process.go(steps))
        if not process.is_over:
            return process
        self.stopped.remove(process)
        return multiple()

    @rule(target=paused, process=consumes(paused), steps=st.integers(1, 4) | st.none())
    def a_process_goes_on(self, process: Steps, steps: int | None):
        return self._go(process, steps)

    @rule(process=consumes(paused))
    def a_process_dies(self, process: Steps) -> None:
        self.stopped.remove(process)
        self.play(process.die())

    @rule(
        known=threads,
        first=st.sampled_from(ENDINGS),
        pause=st.integers(0, 2),
        then=st.sampled_from([["post"], *ENDINGS]),
        overtaken=st.booleans(),
    )
    def a_projector_is_slow(
        self, known: Known, first: list[str], pause: int, then: list[str], overtaken: bool
    ) -> None:
        """It read before something happened; another may have read after, and writes first."""
        self.something_happens(known, first)
        slow = self.play(self._started(self._about(known, "project")))
        self.play(slow.go(pause))
        self.something_happens(known, then)
        if overtaken:
            self._project(known)
        self.play(slow.go())

    @precondition(lambda self: self.written)
    @rule(index=st.integers(0, 1_000))
    def an_old_write_comes_again(self, index: int) -> None:
        self.play(self._write(self.written[index % len(self.written)]))

    async def _write(self, projections: tuple[Projection, ...]) -> None:
        async with engine.as_worker(self.world.record.projector) as connection:
            await threads.project(connection, projections=projections)

    # --- Redis forgets -----------------------------------------------------------------------

    @rule(known=threads)
    def back_up(self, known: Known) -> None:
        if not known.is_deleted:
            known.backup = forgetting.back_up(self.world.redis, known.thread_id)

    @rule(known=threads, restarts=st.booleans(), sure=st.integers(0, 9))
    def redis_forgets(self, known: Known, restarts: bool, sure: int) -> None:
        """It comes back without the thread, or the thread's keys are deleted by hand."""
        if sure in {3, 4, 7}:
            self._load(known, NOTHING, restarts=restarts)

    @rule(known=threads, sure=st.integers(0, 4))
    def redis_comes_back_older(self, known: Known, sure: int) -> None:
        if sure in {2, 3}:
            self._load(known, known.backup, restarts=True)

    @rule()
    def redis_restarts(self) -> None:
        self.world.scene.restart_redis()

    @rule(
        known=threads,
        steps=st.integers(1, 4),
        happened=st.sampled_from([["completed"], ["run"], ["completed", "post"]]),
    )
    def redis_is_restored_under_a_sweep(
        self, known: Known, steps: int, happened: list[str]
    ) -> None:
        """It found no stream; before it does something about it there is one again."""
        self.something_happens(known, ["post"])
        self._project(known)
        held = forgetting.back_up(self.world.redis, known.thread_id)
        self._load(known, NOTHING, restarts=False)
        sweep = self.play(self._started(prune.prune))
        self.play(sweep.go(steps))
        self._load(known, held, restarts=False)
        self.something_happens(known, happened)
        self._project(known)
        self.play(sweep.go())

    @rule(known=threads, reader=st.booleans())
    def redis_forgets_a_run(self, known: Known, reader: bool) -> None:
        """The row has seen a run start; then Redis comes back without it."""
        self.back_up(known)
        self.something_happens(known, ["post", "run"])
        self._project(known)
        self._load(known, known.backup, restarts=True)
        if reader and not known.is_deleted:
            self._read(known)

    def _read(self, known: Known) -> None:
        self.play(self._quiet(reconcile.reconcile(self.world.record, known.thread_id)))
        row = self.world.rows([known.thread_id]).get(known.thread_id)
        mark = self.play(self.world.scene.state(known.thread_id)).mark
        assert row is None or row.stream_id <= mark, "what the row saw is there"

    def _load(self, known: Known, backup: Backup, *, restarts: bool) -> None:
        if known.is_deleted or known.thread_id not in self.world.rows([known.thread_id]):
            return
        self._listen([known])
        forgetting.load(self.world.redis, known.thread_id, backup)
        self.world.scene.clock.advance(1)
        if restarts:
            self.world.scene.restart_redis()

    def _project(self, known: Known) -> None:
        self.play(self._quiet(project.project(self.world.record, known.thread_id)))

    # --- promises ----------------------------------------------------------------------------

    @invariant()
    def every_row_holds(self) -> None:
        ids = [known.thread_id for known in self.known]
        rows, noted = self.world.rows(ids), self.world.deletions(ids)
        found = self._listen(self.known)
        for known in self.known:
            row = rows.get(known.thread_id)
            if row is None:
                self._gone(known, noted.get(known.thread_id), found[known.thread_id])
                continue
            assert not known.is_deleted, "what is deleted stays deleted"
            assert known.thread_id not in noted
            assert row.stream_id >= known.newest, "a row never goes back"
            known.newest = row.stream_id
            claimed = known.said.get(row.stream_id)
            assert row.said == claimed, "a row is the fold of what it claims"
            self._will_be_told(known, row, from_fields(found[known.thread_id]))

    def _will_be_told(self, known: Known, row: Row, state: ThreadState) -> None:
        """A thread at rest whose row lags is named for the sweep; one with work will end."""
        if state.is_open and not state.has_work and row.stream_id <= state.mark:
            is_told = row.said == known.said[state.mark]
            assert is_told or self.world.is_dirty(known), "no row is forgotten"

    def _listen(self, known: list[Known]) -> dict[ThreadId, dict[str, str]]:
        """Hear what streams say now; return their hashes."""
        snapshot = self.world.scene.snapshot([each.thread_id for each in known])
        for each, (_, stream) in zip(known, snapshot, strict=True):
            each.listen(stream)
        return {
            each.thread_id: fields for each, (fields, _) in zip(known, snapshot, strict=True)
        }

    def _gone(self, known: Known, done: bool | None, fields: dict[str, str]) -> None:
        known.is_deleted = True
        assert done is not None, "a row that went is in the outbox"
        if done:
            assert set(fields) == {"deleted"}, "nothing but a tombstone is left"
            left = self.world.scene.keys_of(known.thread_id)
            assert left == [keys.state(known.thread_id)]

    def _rest(self) -> None:
        """Everything that is under way dies; what repairs itself does; then somebody reads."""
        for process in self.stopped:
            self.play(process.die())
        self.stopped.clear()
        for _ in range(8):
            self.world.scene.clock.advance(self.world.scene.settings.start_timeout_seconds)
            for member in self.world.scene.due():
                thread_id, _, lane = member.partition("|")
                self.play(self.world.scene.expire(ThreadId(thread_id), AgentId(lane)))
        assert not self.world.scene.due()
        self.play(reconcile_sweep.sweep(self.world.record))
        self.play(prune.prune(self.world.record))
        assert not self.world.redis.exists(keys.DIRTY), "no row is left to be told"
        self.every_row_holds()
        ids = [known.thread_id for known in self.known]
        rows = self.world.rows(ids)
        assert all(row.said[0] != "running" for row in rows.values()), "nothing says it runs"
        assert all(self.world.deletions(ids).values()), "every deletion is done"
        for known in self.known:
            if known.thread_id in rows:
                self.play(reconcile.reconcile(self.world.record, known.thread_id))
                self._is_up_to_date(known)

    def _is_up_to_date(self, known: Known) -> None:
        row = self.world.rows([known.thread_id])[known.thread_id]
        ((_, stream),) = self.world.scene.snapshot([known.thread_id])
        if not stream:
            assert row.stream_id == "", "a stream that its row remembers is there again"
            return
        known.listen(stream)
        state = fold(stream)
        assert row.stream_id == state.mark, "at rest a row is the fold of all"
        assert row.said == known.said.get(state.mark)

    @staticmethod
    async def _quiet(call) -> None:
        with contextlib.suppress(ArbeError):
            await call
