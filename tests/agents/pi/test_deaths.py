"""pi's that misbehave and workers that die: nothing is left."""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.agents.pi import installs
from tests.agents.pi import provider as model
from tests.agents.pi.conftest import Run
from tests.agents.pi.hands import ThreadHands, until
from tests.agents.pi.provider import Provider
from workers.agents.pi import leftovers
from workers.outcomes import Completed, Failed

# --- pi's that misbehave ----------------------------------------------------------------------


def pretender(place: Path, script: str) -> str:
    """Install something that says it is pi."""
    described = {
        "name": "@earendil-works/pi-coding-agent",
        "version": "1.9.0",
        "bin": {"pi": "cli.js"},
    }
    (place / "package.json").write_text(json.dumps(described))
    (place / "cli.js").write_text(script)
    return str(place)


async def test_a_pi_that_does_not_answer_is_ended_with_all_it_started(
    run: Run, hands: ThreadHands, tmp_path: Path
) -> None:
    stubborn = """
        process.on("SIGTERM", () => {}); process.stdin.resume(); setInterval(() => {}, 1000);
        const { spawn } = require("node:child_process");
        spawn("sleep", ["1000"], { detached: true, stdio: "ignore" }).unref();
    """
    hands.ask("Go.")
    outcome = await run(pi_command=pretender(tmp_path, stubborn), pi_start_seconds=0.7)

    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == ("agent_died", True)
    assert "0.7 s" in outcome.message


async def test_the_last_words_of_a_pi_that_cannot_start_are_told(
    run: Run, hands: ThreadHands, tmp_path: Path
) -> None:
    hands.ask("Go.")
    broken = "console.error('no such flag'); process.exit(1)"
    outcome = await run(pi_command=pretender(tmp_path, broken))

    assert isinstance(outcome, Failed)
    assert outcome.reason == "agent_died"
    assert "exit code 1" in outcome.message
    assert "no such flag" in outcome.message


async def test_a_flood_on_stderr_does_not_stop_pi(
    run: Run, hands: ThreadHands, provider: Provider, tmp_path: Path, version: str
) -> None:
    script = next(installs.folder(version).glob("dist/bundle/cli.js"))
    chatty = f"""
        process.stderr.write("x".repeat(5_000_000));
        import({json.dumps(str(script))});
    """
    provider.steps = [model.text("Hello.")]
    hands.ask("Go.")
    outcome = await run(pi_command=pretender(tmp_path, chatty))

    assert isinstance(outcome, Completed), outcome


# --- workers that die -------------------------------------------------------------------------

WORKER = """
import asyncio, sys
from dispatch.config import Settings
from tests.agents.pi.hands import ThreadHands
from workers.agents.pi.runner import run_with

async def main():
    hands = ThreadHands()
    hands.ask("Go.")
    await run_with(
        Settings(pi_command=sys.argv[1]), hands.request(baseUrl=sys.argv[2]), hands
    )

asyncio.run(main())
"""


async def test_a_killed_worker_takes_its_pi_along_and_its_folder_is_swept(
    provider: Provider, version: str
) -> None:
    provider.otherwise = model.hang
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, str(installs.folder(version)), provider.url
    )
    await asyncio.wait_for(provider.asked.wait(), 20)
    (pi,) = [pid for pid, found in leftovers._marked() if owner_pid(found) == worker.pid]
    leftovers.sweep()
    assert leftovers._started(pi) is not None
    assert len(left_by(worker.pid)) == 2, "the turn's folder and Node's cache"

    worker.kill()
    await worker.wait()

    await until(lambda: leftovers._started(pi) is None)
    leftovers.sweep()
    assert left_by(worker.pid) == []


def owner_pid(marks: dict[str, str]) -> int:
    return int(marks[leftovers.OWNER].split(".")[1])


def left_by(pid: int) -> list[Path]:
    folders = Path(tempfile.gettempdir()).glob("arbe-pi-*")
    return [each for each in folders if f".{pid}." in each.name]


def test_what_a_dead_worker_started_is_killed_and_others_are_not() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    namespace = leftovers._namespace()
    owners = {"dead": f"{namespace}.{gone.pid}.1", "foreign": f"1.{gone.pid}.1"}
    started = {
        name: subprocess.Popen(
            ["sleep", "60"], env={leftovers.OWNER: owner, leftovers.RUN: "r"},
            start_new_session=True,
        )
        for name, owner in owners.items()
    }  # fmt: skip
    try:
        time.sleep(0.05)
        leftovers.sweep()
        assert started["dead"].wait(5) == -signal.SIGKILL
        assert started["foreign"].poll() is None
    finally:
        for each in started.values():
            each.kill()
            each.wait()
