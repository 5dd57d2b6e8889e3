"""Agents that do what no agent should, offered to workers as an installed package would be."""

import asyncio
import contextlib
import os
import re
import sys
import time
from pathlib import Path

from dispatch.errors import ArbeError
from dispatch.payloads.llm import Chunk
from workers.agents import Hands, TurnRequest
from workers.outcomes import AgentOutcome, Completed

NAMES = ("blocking", "hoarding", "stubborn")
STUBBORN_SECONDS = 40.0


async def blocking(_request: TurnRequest, _hands: Hands) -> AgentOutcome:
    """Block the loop; other OS threads go on."""
    time.sleep(600)  # noqa: ASYNC251 - the fault under test
    return Completed()


async def hoarding(_request: TurnRequest, _hands: Hands) -> AgentOutcome:
    """Hold the interpreter's lock: no OS thread runs any more."""
    re.match(r"(a+)+$", "a" * 60 + "b")
    return Completed()


async def stubborn(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Go on talking whatever one is told, also when nobody lets one write any more."""
    words = Chunk(kind="text", message_id=request.message_id(1), delta="no ")
    until = time.monotonic() + STUBBORN_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(asyncio.CancelledError, ArbeError):
            await hands.emit(words)
            await asyncio.sleep(0.1)
    return Completed()


def offer(folder: Path) -> str:
    """Write the metadata of a package with these runners; return a PYTHONPATH that has it."""
    metadata = folder / "offered" / "odd_runners-1.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-runners\nVersion: 1\n")
    lines = [f"{name} = {__name__}:{name}" for name in NAMES]
    (metadata / "entry_points.txt").write_text("\n".join(["[arbe.runners]", *lines, ""]))
    return os.pathsep.join([str(metadata.parent), *sys.path])
