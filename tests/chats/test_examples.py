"""The examples of chats: each call is a new process, which finds what the last one left."""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatch.config import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_SECONDS = 120.0


@dataclass
class Example:
    """Runs one call of an example, in a process of its own."""

    name: str
    environment: dict[str, str]
    folder: Path

    async def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, str(EXAMPLES / self.name), "--state", self.folder, *arguments],
            env=self.environment,
            capture_output=True,
            timeout=LIMIT_SECONDS,
            text=True,
            check=False,
        )


@pytest.fixture
def example(
    request: pytest.FixtureRequest, url: str, settings: Settings, tmp_path: Path
) -> Example:
    environment = {
        **os.environ,
        "ARBE_CHATS_URL": url,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return Example(request.param, environment, tmp_path)


def told(done: subprocess.CompletedProcess[str]) -> tuple[list[str], str]:
    assert done.returncode == 0, done.stderr
    head, _, text = done.stdout.partition("\n")
    return head.split(), text.strip()


@pytest.mark.parametrize(
    ("example", "kind", "count"),
    [
        ("chat_langgraph.py", "ram", 3),
        ("chat_llamaindex.py", "pymongo", 3),
        ("chat_custom.py", "redis", 2),
    ],
    indirect=["example", "kind"],
)
async def test_a_chat_goes_on_in_every_new_process(example: Example, count: int) -> None:
    (chat_id, status), said = told(await example("start", "hello"))
    assert (status, said) == ("ACTIVE", "I have read 1 messages.")
    (_, status), said = told(await example("message", chat_id, "and now?"))
    assert (status, said) == ("ACTIVE", f"I have read {count} messages.")
    assert told(await example("end", chat_id)) == ([chat_id, "CLOSED"], "")


@pytest.mark.parametrize(
    ("example", "kind"), [("chat_custom.py", "redis")], indirect=["example", "kind"]
)
async def test_chats_are_apart_and_a_closed_one_is_told(example: Example) -> None:
    (closed, _), said = told(await example("start", "hello"))
    assert told(await example("start", "hello"))[1] == said
    told(await example("end", closed))
    for refused in (await example("message", closed, "more"), await example("end", closed)):
        assert refused.returncode == 1
        assert refused.stderr == f"Chat '{closed}' is closed. Start a new one.\n"
    unknown = await example("message", "chat-unknown", "hello?")
    assert unknown.returncode == 1
    assert "No chat 'chat-unknown'" in unknown.stderr
