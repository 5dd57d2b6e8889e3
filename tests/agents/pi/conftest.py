import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch.config import Settings
from tests.agents.pi import installs
from tests.agents.pi.hands import ThreadHands
from tests.agents.pi.provider import Provider, serving
from workers.agents.pi import leftovers
from workers.agents.pi.runner import run_with
from workers.outcomes import AgentOutcome

KEY = "sk-not-for-the-agents-eyes"

Run = Callable[..., Awaitable[AgentOutcome]]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with serving() as found:
        yield found


@pytest.fixture
def hands() -> ThreadHands:
    return ThreadHands()


@pytest.fixture
def version(request: pytest.FixtureRequest) -> str:
    """The pi of a test; `every_version` runs it with each."""
    return getattr(request, "param", installs.MIDDLE)


@pytest.fixture
def run(
    provider: Provider, hands: ThreadHands, version: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Take the turn that `hands` was asked for; keywords: settings, and `config`."""
    monkeypatch.setenv("TESTED_API_KEY", KEY)
    command = str(installs.folder(version))

    async def take(config: dict[str, Any] | None = None, **settings: Any) -> AgentOutcome:
        known = {"pi_command": command, "pi_retry_seconds": 0.05, "pi_silence_seconds": 20}
        asked = {
            "baseUrl": provider.url,
            "apiKeyEnv": "TESTED_API_KEY",
            "systemPrompt": "Be brief.",
            **(config or {}),
        }
        request = hands.request(**asked)
        return await run_with(Settings(**{**known, **settings}), request, hands)

    return take


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert processes() == []
    assert folders() == []


def processes() -> list[int]:
    """Processes of this worker's pi's, by their mark."""
    mine = leftovers.marks("")[leftovers.OWNER]
    return [pid for pid, found in leftovers._marked() if found[leftovers.OWNER] == mine]


def folders() -> list[Path]:
    mine = leftovers._this_worker(os.getpid())
    found = Path(tempfile.gettempdir()).glob(f"{leftovers.PREFIX}{mine}-*")
    return [each for each in found if not each.name.endswith("-cache")]
