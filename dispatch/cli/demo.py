"""`arbe demo`: the promise in a minute. A turn streams; its worker is killed; the thread heals.

Everything is real and private: its own servers in a temporary folder, on free ports.
"""

import asyncio
import os
import signal
import tempfile
from contextlib import aclosing
from pathlib import Path

from pydantic import SecretStr

from dispatch import clock
from dispatch.cli import exits, reading
from dispatch.cli.doors import Door
from dispatch.client.connection import Json
from dispatch.config import Settings
from dispatch.embedded import remembered, up
from dispatch.embedded.up import Running
from dispatch.errors import Conflict, Unavailable

_AGENT = "@demo"
_HEAL_SECONDS = 60.0
"""Three times what is promised for a worker that is known dead."""


async def run(door: Door) -> None:
    """Start a system, show a turn, kill a worker, watch the repair, stop; exit code 0 if so."""
    settings = door.settings.model_copy(
        update={"api_port": remembered.free_port(door.settings.api_host)}
    )
    with tempfile.TemporaryDirectory(prefix="arbe-demo-") as folder:
        door.output.line("Starting a private Postgres, Redis, API, worker and beat …", "dim")
        async with up.serving(
            settings, directory=Path(folder), in_haste=asyncio.Event(), echo=None
        ) as running:
            inside = _door_of(door, running)
            try:
                await _show(inside, running)
            finally:
                await inside.close()
        door.output.line("Stopped; nothing is left behind.", "dim")


async def _show(door: Door, running: Running) -> None:
    _headline(door, '1. A turn: arbe thread entries create @demo "run: uname -a"')
    thread = await _turn(door, "run: uname -a", expected=exits.OK)

    _headline(door, "2. A turn whose worker is killed (kill -9) in the middle")
    posted = await _post(door, "sleep: 600")
    await _wait_for(door, posted, "pi.chunk")
    pid = running.supervisor.process_id("worker")
    if pid is None:
        raise Unavailable("The worker", cause="it died before it could be killed")
    os.kill(pid, signal.SIGKILL)
    killed_at = clock.monotonic_seconds()
    door.output.line(f"The agent was speaking; worker {pid} is dead. Nobody reads the thread.")
    with door.output.progress("Waiting for the sweep …"):
        await _wait_for(door, posted, "signal.thread.pi_session_orphaned")
    seconds = clock.monotonic_seconds() - killed_at
    door.output.line(f"After {seconds:.0f} s the sweep has ended the run:", "good")
    await _read(door, posted)
    row = await door.client.threads.get(thread)
    door.output.line(f"The thread's status is now: {row['status']}")
    _require(row["status"] == "failed", "the thread is failed")

    _headline(door, "3. The next entry is answered by the worker that was started again")
    await _turn(door, "are you back?", expected=exits.OK)
    row = await door.client.threads.get(thread)
    door.output.line(f"The thread's status is now: {row['status']}", "good")
    _require(row["status"] == "open", "the thread is open again")


async def _turn(door: Door, text: str, *, expected: int) -> str:
    """Post to the agent and show the turn as it streams; return the thread."""
    posted = await _post(door, text)
    code = await _read(door, posted)
    _require(code == expected, f"the turn for '{text}' completes")
    thread: str = posted["threadId"]
    return thread


async def _post(door: Door, text: str) -> Json:
    door.output.text("You: ", "speaker")
    door.output.line(text)
    return await door.client.entries.create(_AGENT, text)


async def _read(door: Door, posted: Json) -> int:
    """Show what comes of an entry until its turn is over."""
    awaited = [each["id"] for each in posted["dispatches"]]
    return await reading.read(
        door, posted["threadId"], after=posted["entry"]["id"], awaited=awaited
    )


async def _wait_for(door: Door, posted: Json, kind: str) -> Json:
    following = door.client.entries.follow(posted["threadId"], after=posted["entry"]["id"])
    async with asyncio.timeout(_HEAL_SECONDS), aclosing(following) as entries:
        async for entry in entries:
            if entry["payload"]["type"] == kind:
                return entry
    raise Conflict("demo_failed", f"The thread ended before {kind} came.")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Conflict("demo_failed", f"The demo expected that {what}; it did not.")


def _headline(door: Door, text: str) -> None:
    door.output.line("")
    door.output.line(text, "speaker")


def _door_of(door: Door, running: Running) -> Door:
    """Make a door to the demo's own API."""
    known = running.credentials
    settings = Settings(url=known.url, token=SecretStr(known.token))
    return Door(settings, door.output)
