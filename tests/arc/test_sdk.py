"""The real arc-sdk 1.3.1 as it is, against a real API and worker."""

import asyncio
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

from tests.arc.conftest import ArcSystem
from tests.system.houses import Casa

SECONDS = 120


async def play(arc_system: ArcSystem, casa: Casa, scenario: str) -> dict[str, Any]:
    """Let the SDK's client do something in a process of its own; return what it saw."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", str(Path(__file__).with_name("sdk.py"))),
        *(arc_system.endpoint, casa.token, scenario),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode == 0, err.decode()[-3000:]
    seen: dict[str, Any] = json.loads(out.splitlines()[-1])
    return seen


def test_it_is_the_sdk_that_people_have():
    assert importlib.metadata.version("arc-sdk") == "1.3.1"


async def test_it_talks_to_an_agent(arc_system: ArcSystem, casa: Casa):
    assert await play(arc_system, casa, "talk") == {
        "texts": ["one", "two", "a b c d e"],
        "trace": "t-1",
        "type": "chat",
        "last": "done",
        "ended": "CLOSED",
        "reason": "enough",
        "after end": ["ARCChatError", -43002],
        "end twice": ["ARCChatError", -43002],
    }


async def test_it_streams_at_first_contact(arc_system: ArcSystem, casa: Casa):
    assert await play(arc_system, casa, "first_contact") == {
        "words": "a b c",
        "last": "done",
        "one id": True,
        "next": "next",
        "refused": [["error", -43001], ["done", None]],
    }


async def test_it_hears_each_refusal_by_its_code(arc_system: ArcSystem, casa: Casa):
    assert await play(arc_system, casa, "refusals") == {
        "unknown chat": ["ChatNotFoundError", -43001],
        "unknown chat ended": ["ChatNotFoundError", -43001],
        "unknown agent": ["AgentNotFoundError", -41001],
        "invalid params": ["InvalidParamsError", -32602],
        "unknown method": ["MethodNotFoundError", -32601],
        "unknown task": ["TaskNotFoundError", -42001],
        "failed turn": ["ARCTaskError", -42004],
        "bad token": ["AuthenticationError", -44001],
        "too large": ["ARCProtocolError", -45004],
    }


async def test_it_starts_fifty_chats_at_once(arc_system: ArcSystem, casa: Casa):
    seen = await play(arc_system, casa, "fifty")
    assert seen == {"ids": 50, "texts": list(range(50))}


async def test_its_thread_manager_reuses_and_heals(arc_system: ArcSystem, casa: Casa):
    assert await play(arc_system, casa, "manager") == {
        "reused": True,
        "healed": ["three", True, True],
        "streamed": "four",
        "agents": ["demo"],
        "cleaned": {"demo": True},
        "left": False,
        "closed": ["ARCChatError", -43002],
    }


async def test_it_works_with_tasks(arc_system: ArcSystem, casa: Casa):
    assert await play(arc_system, casa, "tasks") == {
        "created": "SUBMITTED",
        "ended": "COMPLETED",
        "said": ["say: done", "done"],
        "roles": ["user", "agent"],
        "cancelled": "CANCELED",
        "sent too late": ["ARCTaskError", -42002],
        "cancelled late": ["ARCTaskError", -42002],
        "cancelled twice": ["ARCTaskError", -42003],
        "subscribed": ["TASK_COMPLETED", "TASK_FAILED"],
        "subscribed inside": ["InvalidParamsError", -32602],
    }
