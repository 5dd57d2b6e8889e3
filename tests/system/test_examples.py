"""The examples, run as a user runs them, against a whole system."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispatch.client import Client, Json
from tests.system.conftest import RunningSystem

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_SECONDS = 60.0


async def example(
    system: RunningSystem, name: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run one example with what its head says it needs."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={
            **os.environ,
            "ARBE_URL": system.url,
            "ARBE_TOKEN": system.token,
            "BROKER_URL": system.broker_url,
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        timeout=LIMIT_SECONDS,
        text=True,
        check=False,
    )


async def chats(client: Client, thread: str) -> list[Json]:
    return [
        entry["payload"]
        async for entry in client.entries.history(thread)
        if entry["payload"]["type"] == "chat"
    ]


async def test_the_http_producer_posts_and_reads_the_answer(
    running_system: RunningSystem,
) -> None:
    done = await example(
        running_system, "http_producer.py", running_system.agent, "run: echo from an example"
    )
    assert done.returncode == 0, done.stderr
    assert "from an example" in done.stdout
    failed = await example(
        running_system, "http_producer.py", running_system.agent, "fail: on purpose"
    )
    assert failed.returncode == 2
    assert "on purpose" in failed.stdout


async def test_the_synchronous_producer_may_try_twice(running_system: RunningSystem) -> None:
    runs = [
        await example(running_system, "sync_producer.py", running_system.agent, "4711")
        for _ in range(2)
    ]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
    unknown = await example(running_system, "sync_producer.py", "@nobody", "4711")
    assert unknown.returncode == 1
    assert "No agent '@nobody'" in unknown.stderr


@pytest.mark.parametrize("repeats", [1, 2])
async def test_the_celery_producer_needs_only_the_broker(
    running_system: RunningSystem, repeats: int
) -> None:
    async with Client(running_system.url, running_system.token) as client:
        made = await client.threads.create(running_system.agent)
        thread = made["thread"]["id"]
        for _ in range(repeats):
            done = await example(
                running_system, "celery_producer.py", thread, "hello", "order-4711"
            )
            assert done.returncode == 0, done.stderr
        async with asyncio.timeout(LIMIT_SECONDS):
            async for entry in client.entries.follow(thread):
                if entry["payload"]["type"] == "signal.dispatch.completed":
                    break
        said = await chats(client, thread)
    assert [chat["text"] for chat in said if chat["by"]["kind"] == "service"] == ["hello"]
