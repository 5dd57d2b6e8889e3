"""Run the crash sweep: `python -m tests.crashes --deaths 12000 --seed 1 --report PATH`."""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import Final

from dispatch.embedded.postgres import Postgres
from dispatch.embedded.redis import Redis
from tests.conftest import running
from tests.crashes.campaign import Result, Task, followers, overtaken, singles
from tests.crashes.crew import Crew, open_crew
from tests.crashes.life import Fault
from tests.crashes.stories import STORIES
from tests.crashes.tally import Tally, told

_HASTY: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_TRIPLES: Final = 0.1
"""Part of the deaths that come in threes."""
_TELL_SECONDS: Final = 10.0


def main() -> None:
    options = _options()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="arbe-crashes-") as folder:
        tally = asyncio.run(_with_servers(Path(folder), options))
    seconds = time.monotonic() - began
    _say(f"{tally.summary()} in {seconds:.0f} s (seed {options.seed})")
    if options.report:
        command = f"python -m tests.crashes --deaths {options.deaths} --seed {options.seed}"
        text = tally.report(seed=options.seed, command=command, seconds=seconds)
        options.report.with_suffix(".md").write_text(text)
        detail = json.dumps(tally.detail(), indent=1)
        options.report.with_suffix(".json").write_text(f"{detail}\n")
    sys.exit(1 if tally.violations else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("--deaths", type=int, default=12_000, help="stop when so many died")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", type=Path, metavar="PATH", help="writes PATH.md, PATH.json")
    parser.add_argument("--strikes", type=int, default=3, help="at most, in one play: 1, 2, 3")
    parser.add_argument("--story", action="append", help="part of a name; several times")
    return parser.parse_args()


async def _with_servers(folder: Path, options: argparse.Namespace) -> Tally:
    """Run the campaign beside private servers."""
    async with AsyncExitStack() as servers:
        (folder / "postgres").mkdir()
        (folder / "redis").mkdir()
        postgres = running(
            Postgres(folder / "postgres", options=_HASTY), folder / "postgres.log"
        )
        server = Redis(folder / "redis", appendfsync="no")
        stream = running(server, folder / "redis.log")
        return await asyncio.to_thread(
            _campaign,
            await servers.enter_async_context(postgres),
            await servers.enter_async_context(stream),
            options,
        )


def _campaign(postgres_url: str, stream_url: str, options: argparse.Namespace) -> Tally:
    tally, chance = Tally(), random.Random(options.seed)  # noqa: S311 - to be repeated
    names = [story.name for story in STORIES]
    if options.story:
        names = [name for name in names if any(part in name for part in options.story)]
    with open_crew(postgres_url, stream_url, jobs=options.jobs) as crew:
        dry = [tally.count(result) for result in crew.act(Task(name) for name in names)]
        tasks = [task for result in dry for task in singles(result)]
        once = list(_acted(crew, iter(tasks), tally, options.deaths))
        if options.strikes == 1:
            return tally
        pairs = [task for result in once for task in followers(result)]
        chance.shuffle(pairs)
        late = [task for result in dry for task in overtaken(result)]
        _say(f"{len(tasks)} plays with one strike, {len(pairs)} with two")
        most = int(options.deaths * (1 - _TRIPLES))
        for _ in _acted(crew, chain(late, pairs), tally, most):
            pass
        if options.strikes == 2:
            return tally
        for _ in _acted(crew, _triples(pairs, chance), tally, options.deaths):
            pass
    return tally


def _acted(crew: Crew, tasks: Iterator[Task], tally: Tally, deaths: int) -> Iterator[Result]:
    """Act and count plays until so many have died; say how far we are."""
    told_at = time.monotonic()
    for result in crew.act(tasks):
        yield tally.count(result)
        if result.violation:
            _say("\n".join(told(result)))
        if time.monotonic() - told_at > _TELL_SECONDS:
            told_at = time.monotonic()
            _say(tally.summary())
        if tally.deaths >= deaths:
            return


def _triples(pairs: list[Task], chance: random.Random) -> Iterator[Task]:
    """Return pairs with a third death somewhere after the second, for ever."""
    while pairs:
        pair = chance.choice(pairs)
        step = pair.faults[-1].step + chance.randint(1, 40)
        third = Fault(step, chance.choice(["before", "after"]))
        yield pair._replace(faults=(*pair.faults, third))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - progress is for a person's terminal


if __name__ == "__main__":
    main()
