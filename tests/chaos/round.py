"""One round from the first start to the verdict."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatch.errors import ArbeError
from tests.chaos import posters, record
from tests.chaos.beats import BeatWatch
from tests.chaos.books import Books
from tests.chaos.doors import open_doors
from tests.chaos.events import FaultLog, now_ms
from tests.chaos.followers import Followers, catch_up
from tests.chaos.hints import Meddler
from tests.chaos.judging import REST_SECONDS, Judge
from tests.chaos.load import Load
from tests.chaos.promises import REPEATABLE
from tests.chaos.stage import Stage, open_stage
from tests.chaos.storm import Storm
from tests.chaos.verdict import Options, Verdict
from tests.system.houses import found_casa

_PATIENCE_SECONDS: Final = 60.0
"""How long we go on looking at what does not come to rest."""
_ANSWER_SECONDS: Final = 30.0
_CATCH_UP_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.2


@dataclass(eq=False)
class Round:
    """One round under way."""

    stage: Stage
    load: Load
    followers: Followers
    beats: BeatWatch
    storm: Storm
    judge: Judge

    async def play(self) -> Verdict:
        """Storm, rest, and judge."""
        began = time.monotonic()
        await self._storm()
        await self._rest()
        everything = await record.read_everything(self.stage, set(self.load.books.threads))
        lasts = {name: told.seq for name, told in everything.streams.items()}
        await catch_up(self.followers, lasts, timeout_seconds=_CATCH_UP_SECONDS)
        await self.followers.close()
        await self.beats.close()
        self.judge.judge(everything)
        self.judge.verdict.seconds = time.monotonic() - began
        return self.judge.verdict

    async def _storm(self) -> None:
        options = self.judge.verdict.options
        faults = options.plan(can_skew=self.stage.faketime is not None)
        self.beats.start()
        posters.start(self.load)
        self.followers.start()
        self.stage.log.note("storm", detail=f"{len(faults)} faults")
        await self.storm.run(faults, seconds=options.seconds)
        self.followers.staying = True
        self.stage.log.note("storm_over")

    async def _rest(self) -> None:
        """Bring everything back and wait until nothing runs any more."""
        for name in await self.stage.heal():
            forced = f"{name} did not come back by itself; its log tells where it hung"
            self.judge.break_promise("", forced)
        self.stage.log.note("healed")
        try:
            await self.load.stop(timeout_seconds=_ANSWER_SECONDS)
        except AssertionError as error:
            self.judge.break_promise("", str(error))
        if self.storm.forgotten:
            await self._read_all_threads()
        # A poison that is taken only now kills once more: the clock starts anew.
        while now_ms() < self.stage.back_ms + _PATIENCE_SECONDS * 1000:
            found = await record.running(self.stage)
            if not found:
                break
            if now_ms() > self.stage.back_ms + REST_SECONDS * 1000:
                self.judge.late |= set(found)
            await asyncio.sleep(_LOOK_SECONDS)
        rest_seconds = (now_ms() - self.stage.back_ms) / 1000
        self.judge.verdict.rest_seconds = rest_seconds
        self.stage.log.note("at_rest", detail=f"{rest_seconds:.1f} s")

    async def _read_all_threads(self) -> None:
        """Look at each thread as a member does: a row is compared when somebody looks."""
        for book in self.load.books.threads.values():
            thread_id = book.thread_id
            if book.deleted:
                continue
            try:
                await self.load.doors.insist(
                    lambda client, thread_id=thread_id: client.threads.get(thread_id)
                )
            except ArbeError as error:
                self.load.refused(error)


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
        beats = BeatWatch(stage.servers["redis"].url)
        meddler = Meddler(stage.settings, random.Random(options.seed))  # noqa: S311
        storm = Storm(stage, load, followers, meddler)
        judge = Judge(stage, log, books, followers, beats, storm, Verdict(options))
        try:
            yield Round(stage, load, followers, beats, storm, judge)
        finally:
            await followers.close()
            await doors.close()


async def _found_house(stage: Stage) -> tuple[str, dict[str, str]]:
    """Found a house with three agents; return its owner's token and the agents' ids."""
    async with found_casa(stage.settings) as casa:
        doors = open_doors(stage.urls, casa.token, Books())
        agents = {"demo": str(casa.agent.id)}
        for handle, config in (("chaos", {}), (REPEATABLE, {"repeatable": True})):
            made = await doors.any().agents.create(handle, runner="chaos", config=config)
            agents[handle] = str(made["id"])
        await doors.close()
        return casa.token, agents
