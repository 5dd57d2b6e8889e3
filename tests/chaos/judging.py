"""The verdict: every thread is asked for every promise, and everything is counted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.chaos import forgetting, journal, plan, promises, record, recovery
from tests.chaos.beats import BeatWatch
from tests.chaos.books import Books
from tests.chaos.events import FaultLog
from tests.chaos.followers import Followers
from tests.chaos.promises import Case, Times, broken
from tests.chaos.record import Everything
from tests.chaos.stage import CLOCKS, Stage
from tests.chaos.storm import Storm
from tests.chaos.verdict import Verdict, Violation

REST_SECONDS: Final = 20.0
"""No thread is `running` later than this after the last process came back."""
_AROUND_MS: Final = 15_000
_FAULTS: Final = frozenset({
    "kill", "stop", "term", "roll", "net", "cut", "flush", "duplicate", "reorder", "forge",
    "poison", "skew", "hang_up_followers", "produce", "forget",
})  # fmt: skip


@dataclass(eq=False)
class Judge:
    """Knows what was asked for, what was done, and what the record says."""

    stage: Stage
    log: FaultLog
    books: Books
    followers: Followers
    beats: BeatWatch
    storm: Storm
    verdict: Verdict
    late: set[str] = field(default_factory=set)
    """Threads that ran longer than they may."""

    def judge(self, everything: Everything) -> None:
        """Find every broken promise, and count."""
        for case in self._cases(everything):
            for promise in broken(case):
                self.break_promise(case.thread_id, promise, everything)
            for promise in self._behind(case):
                self.break_promise(case.thread_id, promise, everything)
        for thread_id in sorted(self.late):
            promise = f"not at rest {REST_SECONDS:g} s later"
            self.break_promise(thread_id, promise, everything)
        for promise in self._broken_by_all(everything):
            self.break_promise("", promise)
        self._count(everything)

    def break_promise(
        self, thread_id: str, promise: str, everything: Everything | None = None
    ) -> None:
        """Remember a broken promise, with the stream and the faults around it."""
        history: list[str] = []
        faults = self.log.events[-200:]
        if everything is not None and thread_id in everything.streams:
            told = everything.streams[thread_id]
            row = everything.rows.get(thread_id)
            history = [*told.lines(), f"state: {told.fields}", f"row: {row}"]
            if told.raw:
                first, last = told.raw[0].at, told.raw[-1].at
                faults = self.log.around(first - _AROUND_MS, last + _AROUND_MS)
        self.verdict.violations.append(
            Violation(thread_id, promise, history, [str(event) for event in faults])
        )

    def _cases(self, everything: Everything) -> Iterator[Case]:
        effects = journal.read(self.stage.journal)
        gone, back = (
            [event.at_ms for event in self.log.of(word) if event.target == "redis"]
            for word in ("ended", "ready")
        )
        # Its first coming ended nothing.
        self.beats.away = list(zip(gone, back[1:], strict=False))
        times = Times(
            self.beats,
            worker_dead_ms=int(float(CLOCKS["ARBE_WORKER_DEAD_SECONDS"]) * 1000),
            ended_ms={event.pid: event.at_ms for event in self.log.of("ended") if event.pid},
            forgotten=self.storm.forgotten,
        )
        for thread_id, book in self.books.threads.items():
            yield Case(
                book,
                everything.streams[thread_id],
                everything.rows.get(thread_id),
                [effect for effect in effects if effect.thread_id == thread_id],
                [seen for seen in self.followers.seen if seen.thread_id == thread_id],
                times,
            )

    def _behind(self, case: Case) -> Iterator[str]:
        """Yield who still follows a thread and has not seen its end."""
        if case.book.deleting or case.may_have_been_forgotten:
            return
        for seen in case.seen:
            is_current = seen in self.followers.current.values()
            if is_current and not seen.ended and len(seen.durable) < case.told.seq:
                count = f"{len(seen.durable)} of {case.told.seq}"
                yield f"a follower saw {count} entries, up to {seen.last_id}"

    def _broken_by_all(self, everything: Everything) -> list[str]:
        """Return what is wrong with no thread in particular."""
        strangers = [
            row.thread_id
            for row in everything.rows.values()
            if row.thread_id not in self.books.threads and not row.is_primary
        ]
        lost = [
            entry_id
            for entry_id in self.books.missing
            if not forgetting.is_within(self.storm.forgotten, int(entry_id[:15]))
        ]
        return [
            *(f"an answer did not know the entry {entry_id}" for entry_id in lost),
            *(f"a refusal that nobody deserved: {text}" for text in self.books.refusals),
            *(f"a follower was sent away: {text}" for text in self.followers.refusals),
            *(f"a row that nobody made: {name}" for name in strangers),
            *(f"a deletion left half done: {name}" for name in everything.open_deletions),
            *(f"a cancel left half done: {name}" for name in everything.open_cancellations),
            *(f"in the due index at rest: {member}" for member in everything.due),
            *(f"a row that lags at rest: {member}" for member in everything.behind),
        ]

    def _count(self, everything: Everything) -> None:
        verdict, streams = self.verdict, list(everything.streams.values())
        words = Counter(
            record.word_of(end)
            for told in streams
            for ends in told.terminals.values()
            for _, end in ends
        )
        verdict.terminals = dict(words)
        verdict.kills = {name: slot.kills for name, slot in self.stage.slots.items()}
        verdict.faults = {
            word: count for word, count in self.log.counts().items() if word in _FAULTS
        }
        verdict.recoveries = [times.summary() for times in recovery.measure(self.log, streams)]
        verdict.counts = self._amounts(everything)
        if self.stage.faketime is None:
            verdict.notes.append("No clock was skewed: faketime is not installed.")

    def _amounts(self, everything: Everything) -> dict[str, int]:
        streams = everything.streams.values()
        books = self.books.threads.values()
        return {
            "threads": len(books),
            "deleted threads": sum(book.deleted for book in books),
            "posts": len(self.books.posts()),
            "entries": sum(len(told.raw) for told in streams),
            "dispatches": sum(len(told.births) for told in streams),
            "runs": sum(len(told.starts) for told in streams),
            "reaps": sum(len(told.reaped) for told in streams),
            "effects": len(journal.read(self.stage.journal)),
            "cancels": sum(len(book.cancelled) for book in books),
            "withdrawals": sum(len(book.withdrawn) for book in books),
            "cancels of whole threads": sum(len(book.cancel_alls) for book in books),
            "answers of 'not now'": self.books.unavailable,
            "followers' connections": sum(seen.connections for seen in self.followers.seen),
            "entries seen by followers": sum(len(s.durable) for s in self.followers.seen),
            "ends that took too long": len(self.storm.slow_ends),
            "worker processes killed by a poison": sum(
                event.detail == "exit 137" and event.target in plan.WORKERS
                for event in self.log.of("ended")
            ),
            "threads told of a rollback": sum(told.was_rolled_back for told in streams),
            "effects that a Redis that forgot let happen twice": sum(
                len(list(promises.forgiven(case))) for case in self._cases(everything)
            ),
        }
