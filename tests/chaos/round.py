"""One round from the first start to the verdict."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos import journal, plan, posters, record, recovery
from tests.chaos.beats import BeatWatch
from tests.chaos.books import Books
from tests.chaos.doors import Doors, open_doors
from tests.chaos.events import FaultLog, now_ms
from tests.chaos.followers import Followers, catch_up
from tests.chaos.hints import Meddler
from tests.chaos.load import Load
from tests.chaos.promises import REPEATABLE, Case, broken
from tests.chaos.record import Everything
from tests.chaos.servers import BrokerKind
from tests.chaos.stage import CLOCKS, Stage, open_stage
from tests.chaos.storm import Storm
from tests.system.houses import found_casa

REST_SECONDS: Final = 20.0
"""No thread is `running` later than this after the last process came back."""
_PATIENCE_SECONDS: Final = 60.0
"""How long we go on looking at what does not come to rest."""
_ANSWER_SECONDS: Final = 30.0
_CATCH_UP_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.2
_AROUND_MS: Final = 15_000


@dataclass(frozen=True)
class Options:
    """What a round is made of."""

    seed: int
    seconds: float
    kills: int
    broker: BrokerKind = "redis"
    broken: str = ""
    """The guard that is taken away; empty: none."""


@dataclass(frozen=True)
class Violation:
    """A broken promise and how it came to it."""

    thread_id: str
    promise: str
    history: list[str]
    faults: list[str]


@dataclass
class Verdict:
    """What a round showed."""

    options: Options
    kills: dict[str, int] = field(default_factory=dict)
    """Processes that died by a SIGKILL of ours, by name."""
    faults: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    terminals: dict[str, int] = field(default_factory=dict)
    recoveries: list[dict[str, Any]] = field(default_factory=list)
    rest_seconds: float = 0.0
    """From the last process's return until nothing ran any more."""
    notes: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)


@dataclass(eq=False)
class Round:
    """One round under way."""

    options: Options
    stage: Stage
    log: FaultLog
    books: Books
    load: Load
    followers: Followers
    beats: BeatWatch
    storm: Storm
    verdict: Verdict
    late: list[str] = field(default_factory=list)
    """Threads that ran longer than they may."""

    async def play(self) -> Verdict:
        """Storm, rest, and judge."""
        began = time.monotonic()
        await self._storm()
        await self._rest()
        everything = await record.read_everything(self.stage, set(self.books.threads))
        lasts = {name: told.seq for name, told in everything.streams.items()}
        await catch_up(self.followers, lasts, timeout_seconds=_CATCH_UP_SECONDS)
        await self.followers.close()
        await self.beats.close()
        self._judge(everything)
        self.verdict.seconds = time.monotonic() - began
        self._count(everything)
        return self.verdict

    async def _storm(self) -> None:
        options = self.options
        faults = plan.make(
            options.seed,
            seconds=options.seconds,
            kills=options.kills,
            can_skew=self.stage.faketime is not None,
        )
        self.beats.start()
        posters.start(self.load)
        self.followers.start()
        self.log.note("storm", detail=f"{len(faults)} faults")
        await self.storm.run(faults, seconds=options.seconds)
        self.followers.staying = True
        self.log.note("storm_over")

    async def _rest(self) -> None:
        """Bring everything back and wait until nothing runs any more."""
        for name in await self.stage.heal():
            self._break("", f"{name} did not come back by itself; its log tells where it hung")
        self.log.note("healed")
        try:
            await self.load.stop(timeout_seconds=_ANSWER_SECONDS)
        except AssertionError as error:
            self._break("", str(error))
        # A poison that is taken only now kills once more: the clock starts anew.
        while now_ms() < self.stage.back_ms + _PATIENCE_SECONDS * 1000:
            found = await record.running(self.stage)
            if not found:
                break
            if now_ms() > self.stage.back_ms + REST_SECONDS * 1000:
                self.late = sorted({*self.late, *found})
            await asyncio.sleep(_LOOK_SECONDS)
        self.verdict.rest_seconds = (now_ms() - self.stage.back_ms) / 1000
        self.log.note("at_rest", detail=f"{self.verdict.rest_seconds:.1f} s")

    def _judge(self, everything: Everything) -> None:
        effects = journal.read(self.stage.journal)
        dead_ms = int(float(CLOCKS["ARBE_WORKER_DEAD_SECONDS"]) * 1000)
        for thread_id, book in self.books.threads.items():
            case = Case(
                book,
                everything.streams[thread_id],
                everything.rows.get(thread_id),
                [effect for effect in effects if effect.thread_id == thread_id],
                [seen for seen in self.followers.seen if seen.thread_id == thread_id],
            )
            for promise in broken(case, self.beats, worker_dead_ms=dead_ms):
                self._break(thread_id, promise, everything)
        for seen in self.followers.current.values():
            last = everything.streams[seen.thread_id].seq
            ended = seen.ended or self.books.threads[seen.thread_id].deleting
            if not ended and len(seen.durable) < last:
                saw = f"a follower saw {len(seen.durable)} of {last}, up to {seen.last_id}"
                self._break(seen.thread_id, saw, everything)
        for thread_id in self.late:
            self._break(thread_id, f"not at rest {REST_SECONDS:g} s later", everything)
        for promise in self._broken_by_all(everything):
            self._break("", promise)

    def _broken_by_all(self, everything: Everything) -> list[str]:
        """Return what is wrong with no thread in particular."""
        strangers = [
            row.thread_id
            for row in everything.rows.values()
            if row.thread_id not in self.books.threads and not row.is_primary
        ]
        return [
            *(f"a refusal that nobody deserved: {text}" for text in self.books.refusals),
            *(f"a follower was sent away: {text}" for text in self.followers.refusals),
            *(f"a row that nobody made: {name}" for name in strangers),
            *(f"a deletion left half done: {name}" for name in everything.open_deletions),
            *(f"a cancel left half done: {name}" for name in everything.open_cancellations),
            *(f"in the due index at rest: {member}" for member in everything.due),
            *(f"a row that lags at rest: {member}" for member in everything.behind),
        ]

    def _break(
        self, thread_id: str, promise: str, everything: Everything | None = None
    ) -> None:
        history: list[str] = []
        faults = list(self.log.events)[-200:]
        if everything is not None and thread_id in everything.streams:
            told = everything.streams[thread_id]
            history = [
                *told.lines(),
                f"state: {told.fields}",
                f"row: {everything.rows.get(thread_id)}",
            ]
            if told.raw:
                first, last = told.raw[0].at, told.raw[-1].at
                faults = self.log.around(first - _AROUND_MS, last + _AROUND_MS)
        self.verdict.violations.append(
            Violation(thread_id, promise, history, [str(event) for event in faults])
        )

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
        verdict.counts = {
            "threads": len(self.books.threads),
            "deleted threads": sum(book.deleted for book in self.books.threads.values()),
            "posts": len(self.books.posts()),
            "entries": sum(len(told.raw) for told in streams),
            "dispatches": sum(len(told.births) for told in streams),
            "runs": sum(len(told.starts) for told in streams),
            "reaps": sum(len(told.reaped) for told in streams),
            "effects": len(journal.read(self.stage.journal)),
            "cancels": sum(len(book.cancelled) for book in self.books.threads.values()),
            "withdrawals": sum(len(book.withdrawn) for book in self.books.threads.values()),
            "cancels of whole threads": sum(
                len(book.cancel_alls) for book in self.books.threads.values()
            ),
            "answers of 'not now'": self.books.unavailable,
            "followers' connections": sum(seen.connections for seen in self.followers.seen),
            "entries seen by followers": sum(len(s.durable) for s in self.followers.seen),
            "ends that took too long": len(self.storm.slow_ends),
            "worker processes killed by a poison": sum(
                event.detail == "exit 137" for event in self.log.of("ended")
            ),
        }
        if self.stage.faketime is None:
            verdict.notes.append("No clock was skewed: faketime is not installed.")


_FAULTS: Final = frozenset({
    "kill", "stop", "term", "roll", "net", "cut", "flush", "duplicate", "reorder", "forge",
    "poison", "skew", "hang_up_followers", "produce",
})  # fmt: skip


@asynccontextmanager
async def open_round(options: Options, folder: Path) -> AsyncIterator[Round]:
    """Start a system and everybody around it."""
    log = FaultLog(folder / "faults.jsonl")
    async with open_stage(folder, log, broker=options.broker, broken=options.broken) as stage:
        token, agents = await _found_house(stage)
        books = Books()
        doors = open_doors(stage.urls, token, books)
        load = Load(doors, books, agents, log, options.seed)
        followers = Followers(doors, load, options.seed)
        meddler = Meddler(stage.settings, random.Random(options.seed))  # noqa: S311
        try:
            yield Round(
                options,
                stage,
                log,
                books,
                load,
                followers,
                BeatWatch(stage.servers["redis"].url),
                Storm(stage, load, followers, meddler),
                Verdict(options),
            )
        finally:
            await followers.close()
            await doors.close()


async def _found_house(stage: Stage) -> tuple[str, dict[str, str]]:
    """Found a house with three agents; return its owner's token and the agents' ids."""
    async with found_casa(stage.settings) as casa:
        doors: Doors = open_doors(stage.urls, casa.token, Books())
        agents = {"demo": str(casa.agent.id)}
        for handle, config in (("chaos", {}), (REPEATABLE, {"repeatable": True})):
            made = await doors.any().agents.create(handle, runner="chaos", config=config)
            agents[handle] = str(made["id"])
        await doors.close()
        return casa.token, agents
