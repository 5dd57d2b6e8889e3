"""Agents that do what no agent should, and one that calls a tool.

They are offered to workers as an installed package would be.
"""

import asyncio
import contextlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from dispatch.errors import ArbeError
from dispatch.payloads.llm import Assistant, Chunk
from workers.agents import Hands, ToolCall, TurnRequest
from workers.outcomes import AgentOutcome, Completed

NAMES = ("blocking", "calling", "hoarding", "stubborn")
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


async def calling(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Call the last tool that one is offered, and say what came of it."""
    last = (await hands.history())[-1]
    call = ToolCall(id="call-1", name=request.tools[-1].name, arguments={"city": "Oslo"})
    if last.role == "user":
        block = {"type": "toolCall", "id": call.id, "name": call.name}
        await hands.emit(_said(request, 1, {**block, "arguments": call.arguments}))
    answer = await hands.call_tool(call)
    word = "failed" if answer.is_error else "done"
    await hands.emit(_said(request, 2, {"type": "text", "text": f"{word}: {answer.text}"}))
    return Completed()


def _said(request: TurnRequest, number: int, block: dict[str, Any]) -> Assistant:
    message = {"role": "assistant", "content": [block]}
    return Assistant(
        message_id=request.message_id(number), turn_index=number - 1, message=message
    )


def offer(folder: Path) -> str:
    """Write the metadata of a package with these runners; return a PYTHONPATH that has it."""
    metadata = folder / "offered" / "odd_runners-1.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-runners\nVersion: 1\n")
    lines = [f"{name} = {__name__}:{name}" for name in NAMES]
    (metadata / "entry_points.txt").write_text("\n".join(["[arbe.runners]", *lines, ""]))
    return os.pathsep.join([str(metadata.parent), *sys.path])
