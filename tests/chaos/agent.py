"""The agent of the campaign: it does things to the world, and may kill its own process.

It runs inside the workers, as any installed package's runner. `steps <count> <seconds> …` does
so many steps: an intent on the stream, one line in the journal (the step's only effect), a
pause, a result. `die before …` ends the process at once, `die after …` with its effect done.
"""

import asyncio
import json
import os
import re
import time
from typing import Final

from tests.chaos.journal import JOURNAL
from workers.agents import Hands, ToolAnswer, ToolCall, TurnRequest
from workers.agents.transcript import Transcript
from workers.outcomes import AgentOutcome, Completed
from workers.sandboxes import OnOutput

_MENTIONS: Final = re.compile(r"(?:@[a-z][a-z0-9_-]*\s+)*")
_DEAD: Final = 137


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn."""
    transcript = Transcript(request, hands)
    match _MENTIONS.sub("", request.text, count=1).split():
        case ["steps", count, seconds, *_]:
            for step in range(1, int(count) + 1):
                await _step(transcript, request, hands, step, float(seconds))
        case ["die", "after", *_]:
            await transcript.call_tool("effect", {"step": 1})
            _effect(request, 1)
            os._exit(_DEAD)
        case ["die", *_]:
            os._exit(_DEAD)
        case _:
            pass
    await transcript.say("Done.")
    return Completed(usage=transcript.usage)


async def _step(
    transcript: Transcript, request: TurnRequest, hands: Hands, step: int, seconds: float
) -> None:
    async def perform(_call: ToolCall, _show: OnOutput) -> ToolAnswer:
        _effect(request, step)
        await asyncio.sleep(seconds)
        return ToolAnswer(text="done")

    await hands.call_tool(await transcript.call_tool("effect", {"step": step}), perform)


def _effect(request: TurnRequest, step: int) -> None:
    """Add one line to the journal; the kernel keeps it whole, whoever writes beside us."""
    line = {
        "at_ms": time.time_ns() // 1_000_000,
        "thread_id": str(request.thread_id),
        "dispatch_id": request.dispatch_id,
        "attempt": request.attempt,
        "run_id": request.run_id,
        "step": step,
        "call_id": f"{request.message_id(step)}:call",
        "agent": request.agent.handle,
        "pid": os.getpid(),
    }
    file = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)
