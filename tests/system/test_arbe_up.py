"""`arbe up` as a newcomer runs it, under load, with each of its processes killed in turn."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_asyncio

from dispatch.client import Client
from dispatch.embedded import remembered
from dispatch.errors import ArbeError
from tests.system.processes import SHORT_CLOCKS

CHILDREN = {
    "worker": "worker",
    "api": "dispatch.api",
    "beat": "beat",
    "redis": "redis-server",
    "postgres": "bin/postgres",
}
THREADS = 4
PAUSE_SECONDS = 0.15
TERMINALS = {
    "signal.dispatch.completed",
    "signal.dispatch.failed",
    "signal.dispatch.cancelled",
}


@dataclass
class Up:
    """A running `arbe up`."""

    process: subprocess.Popen[str]
    url: str
    token: str
    folder: Path

    def child(self, name: str) -> int | None:
        """Return the pid of one of its children while it lives."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if parent == self.process.pid and CHILDREN[name] in command:
                return int(entry.name)
        return None


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Up]:
    port = remembered.free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.endswith("_URL")},
        **SHORT_CLOCKS,
        "ARBE_API_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it outlives this loop's turn
            [sys.executable, "-m", "dispatch.cli", "up", "--json"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout as stdout:
        try:
            told = json.loads(await asyncio.to_thread(stdout.readline))
            yield Up(process, told["url"], told["token"], tmp_path)
        finally:
            process.send_signal(signal.SIGINT)
            code = await asyncio.to_thread(process.wait, 60)
        assert code == 0


@dataclass
class Load:
    """Posts entries without a pause worth mentioning, and remembers what was accepted."""

    client: Client
    threads: list[str]
    accepted: dict[str, str] = field(default_factory=dict)
    """Idempotency key → the dispatch it was answered with."""
    stopped: bool = False

    async def run(self, thread: str) -> None:
        """Post to one thread until stopped; what was not accepted is tried again."""
        number = 0
        while not self.stopped:
            number += 1
            key = f"{thread}-{number}"
            while key not in self.accepted:
                try:
                    posted = await self.client.entries.create(thread, f"say {key}", key=key)
                    self.accepted[key] = posted["dispatches"][0]["id"]
                except ArbeError:
                    await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)


async def test_each_process_may_be_killed_and_every_accepted_entry_ends_once(
    running: Up,
) -> None:
    """Also: neither the token nor what people say reaches the log."""
    async with Client(running.url, running.token) as client:
        made = [await client.threads.create(parent="@demo") for _ in range(THREADS)]
        load = Load(client, [each["thread"]["id"] for each in made])
        posting = [asyncio.create_task(load.run(thread)) for thread in load.threads]
        for name in CHILDREN:
            await kill_and_wait(running, client, name)
        load.stopped = True
        await asyncio.gather(*posting)
        assert len(load.accepted) > THREADS * len(CHILDREN)
        for thread in load.threads:
            await check(client, thread, load)
        assert await none_running(client)
    logged = (running.folder / ".arbe" / "arbe.log").read_text()
    assert "run.claimed" in logged
    assert running.token not in logged
    assert "say " not in logged


async def kill_and_wait(running: Up, client: Client, name: str) -> None:
    pid = running.child(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while running.child(name) in {None, pid} or not await healthy(client):
        assert time.monotonic() < deadline, f"{name} did not come back"
        await asyncio.sleep(0.2)
    # A little normal life before the next blow.
    await asyncio.sleep(2)


async def healthy(client: Client) -> bool:
    try:
        return bool((await client.health())["status"] == "ok")
    except ArbeError:
        return False


async def check(client: Client, thread: str, load: Load) -> None:
    """Every accepted entry of a thread has one terminal and at most one answer."""
    mine = {each for key, each in load.accepted.items() if key.startswith(thread)}
    deadline = time.monotonic() + 40
    while True:
        entries = [each async for each in client.entries.history(thread)]
        ended = [
            e["payload"]["dispatchId"] for e in entries if e["payload"]["type"] in TERMINALS
        ]
        if set(ended) >= mine or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    assert set(ended) == mine
    assert len(ended) == len(mine)
    answers = [_dispatch(e) for e in entries if e["payload"]["type"] == "pi.assistant"]
    assert len(answers) == len(set(answers))
    sequence = [each["seq"] for each in entries if "seq" in each]
    assert sequence == list(range(1, len(sequence) + 1))


async def none_running(client: Client) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = await client.threads.list(status="running")
        if not found["threads"]:
            return True
        await asyncio.sleep(0.5)
    return False


def _dispatch(entry: dict[str, Any]) -> str:
    message_id: str = entry["payload"]["messageId"]
    return message_id.partition(":")[0]
