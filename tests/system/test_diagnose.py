"""`arbe diagnose` over a system whose processes come, die and come back."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from dispatch.client import Client
from dispatch.embedded import remembered
from tests.system.houses import Casa
from tests.system.processes import Processes

FAILED, STALLED = 2, 3
LIMIT_SECONDS = 60.0


@dataclass
class Answer:
    code: int
    out: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Arbe:
    """The command line, against the system's own API."""

    environment: dict[str, str]

    async def __call__(self, *arguments: str) -> Answer:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dispatch.cli", *arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(LIMIT_SECONDS):
            out, err = await process.communicate()
        assert b"Traceback" not in err, err.decode()
        assert process.returncode is not None
        return Answer(process.returncode, out.decode())

    async def until(self, fits: Callable[[Answer], bool], *arguments: str) -> Answer:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not fits(answer := await self(*arguments)):
            assert time.monotonic() < deadline, answer
        return answer


@pytest_asyncio.fixture
async def arbe(casa: Casa, processes: Processes) -> AsyncIterator[Arbe]:
    url = f"http://127.0.0.1:{(port := remembered.free_port())}"
    processes.start("dispatch.api", ARBE_API_PORT=str(port))
    async with Client(url, casa.token, patience_seconds=LIMIT_SECONDS) as client:
        await client.health()
    yield Arbe({**processes.environment(), "ARBE_URL": url, "ARBE_TOKEN": casa.token})


def codes(answer: Answer) -> set[str]:
    return {finding["code"] for finding in answer.json["findings"]}


async def test_a_fleet_without_a_worker_with_one_and_with_a_dead_one(
    casa: Casa, processes: Processes, arbe: Arbe
) -> None:
    fleet = ("diagnose", "--fleet", "--json")
    thread_id = await casa.dm()
    await casa.post(thread_id, "sleep: 600")
    one = ("thread", "diagnose", str(thread_id), "--json")

    alone = await arbe(*fleet)
    assert alone.code == FAILED
    assert "no_worker" in codes(alone)
    assert alone.json["threads"]["stages"] in ({"queued": 1}, {"stalled": 1})
    stuck = await arbe.until(lambda answer: answer.code == STALLED, *one)
    assert "none is alive" in stuck.json["cause"]

    worker = processes.start_worker()
    processes.start_beat()
    await casa.wait_words(thread_id, timeout_seconds=LIMIT_SECONDS)
    well = await arbe.until(lambda answer: answer.code == 0, *fleet)
    assert well.json["threads"]["stages"] == {"running": 1}
    # Beside those that earlier tests killed and nobody has missed yet.
    (living,) = [each for each in well.json["workers"] if each["isAlive"]]
    await arbe.until(
        lambda answer: (
            {"redeliver", "reconcile"} <= {each["name"] for each in answer.json["sweeps"]}
        ),
        *fleet,
    )
    run = (await arbe(*one)).json
    assert run["stage"] == "running"
    assert run["evidence"]["workerId"] == living["workerId"]

    processes.end(worker, by=signal.SIGKILL)
    dead = await arbe.until(lambda answer: answer.code == STALLED, *one)
    assert "no sign of life" in dead.json["cause"]
    seen = await arbe(*fleet)
    assert seen.code == FAILED
    assert {"no_worker", "threads_stalled"} <= codes(seen)
    assert [each["threadId"] for each in seen.json["threads"]["listed"]] == [str(thread_id)]

    processes.start_worker()
    ended = await arbe.until(lambda answer: answer.code == FAILED, *one)
    assert ended.json["evidence"]["reason"] == "orphaned"
    repaired = await arbe.until(lambda answer: answer.code == 0, *fleet)
    assert repaired.json["threads"]["stages"] == {"failed": 1}
