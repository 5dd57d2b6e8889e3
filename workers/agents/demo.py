"""The demo agent: deterministic, needs no key, and really works.

An ordinary text is answered by quoting it. A text that begins with one of these words is an
order: `run: <command>` runs it in the thread's sandbox, `sleep: <seconds>` says so and waits,
`mute: <seconds>` waits without a word, `fail: <text>` fails, `steps: <count> [<seconds>]` takes
steps of so many seconds (1) each, with a checkpoint after each, and can be steered in between,
`say: <text>` says just that, with escaped mentions made real: so it can be told whom to ask,
`delegate: <handle> <task>` gives tasks, one a line, all at once (its config must allow that).
Mentions in front are skipped, and escaped in what it quotes: an echo wakes nobody.
"""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dispatch.models import mentions
from dispatch.models.history import HistoryMessage
from dispatch.payloads.content import tool_calls
from workers.agents import Hands, ToolCall, TurnRequest
from workers.agents.transcript import Transcript
from workers.outcomes import AgentOutcome, Completed, Failed

MAX_WAIT_SECONDS: Final = 3600.0
"""Below the run's own time limit (`run_timeout_seconds`), so the answer can still come."""
MAX_QUOTE_CHARACTERS: Final = 280
"""A long text must not make an answer that streams for minutes."""

_TASK: Final = re.compile(r"^\s*(\S+)[ \t]+(\S.*)$", re.MULTILINE)
_STEPS: Final = re.compile(r"(\d{1,4})(?:\s+(\d{1,3}(?:\.\d+)?))?")
_MENTIONS: Final = re.compile(r"(?:@[a-z][a-z0-9_-]*[,:]?\s+)+")
_ORDER: Final = re.compile(
    r"(run|say|sleep|mute|fail|steps|delegate):(.*)", re.DOTALL | re.IGNORECASE
)


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn.

    Promise: the same text makes the same words. A command's intent stands on the stream before
    the command starts. Only a cancellation ends it without an outcome.
    """
    transcript = Transcript(request, hands)
    text = _MENTIONS.sub("", request.text.strip(), count=1)
    order = _ORDER.match(text)
    if order is None:
        await transcript.say(_answer(text))
        return Completed(usage=transcript.usage)
    word, rest = order[1].lower(), order[2].strip()
    match word:
        case "run":
            await _run_command(transcript, hands, rest)
        case "delegate":
            await _delegate(transcript, hands, rest)
        case "say":
            await transcript.say(rest.replace("\\@", "@") or "What? Try: say: hello")
        case "fail":
            message = rest or "The demo agent was asked to fail."
            return Failed(reason="agent_error", message=message, usage=transcript.usage)
        case "steps":
            await _take_steps(transcript, hands, rest, request.checkpoint)
        case _:
            await _wait(transcript, word, rest)
    return Completed(usage=transcript.usage)


def _answer(text: str) -> str:
    if not text:
        return "You said nothing. Try: run: uname -a"
    count = len(text.split())
    return f"You said: “{_quoted(text)}” That is {count} {'word' if count == 1 else 'words'}."


def _quoted(text: str) -> str:
    cut = text if len(text) <= MAX_QUOTE_CHARACTERS else f"{text[:MAX_QUOTE_CHARACTERS]}…"
    return mentions.escaped(cut)


async def _wait(transcript: Transcript, word: str, rest: str) -> None:
    seconds = _seconds(rest)
    if seconds is None:
        await transcript.say(
            f"“{_quoted(rest)}” is not a number of seconds between 0 and "
            f"{MAX_WAIT_SECONDS:g}. Try: {word}: 3"
        )
        return
    if word == "sleep":
        await transcript.begin(f"Sleeping {seconds:g} s … ")
    await asyncio.sleep(seconds)
    await transcript.say(
        "Awake again." if word == "sleep" else f"I was mute for {seconds:g} s."
    )


async def _take_steps(
    transcript: Transcript, hands: Hands, rest: str, checkpoint: dict[str, Any] | None
) -> None:
    """Say each step, and what was said to steer them; go on where an earlier attempt ended."""
    order = _STEPS.fullmatch(rest)
    if order is None:
        await transcript.say(f"“{_quoted(rest)}” is no number. Try: steps: 5")
        return
    count, pause = int(order[1]), float(order[2] or 1)
    done = int(checkpoint["done"]) if checkpoint else 0
    for step in range(done + 1, count + 1):
        heard = await hands.take_steering(step)
        words = "".join(f" You steered me: “{mentions.escaped(text)}”." for text in heard)
        await transcript.say(f"Step {step} of {count}.{words}", checkpoint={"done": step})
        if step < count:
            await asyncio.sleep(pause)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= MAX_WAIT_SECONDS else None


async def _run_command(transcript: Transcript, hands: Hands, command: str) -> None:
    if not command:
        await transcript.say("There is no command to run. Try: run: uname -a")
        return
    call = _begun(await hands.history())
    call = call or await transcript.call_tool("run_command", {"command": command})
    answer = await hands.call_tool(call)
    transcript.read(answer.text)
    await transcript.say(_report(answer.details))


async def _delegate(transcript: Transcript, hands: Hands, rest: str) -> None:
    """Give each line's task to whom it begins with; wait for all; say what they answered."""
    tasks = _TASK.findall(rest)
    if not tasks:
        await transcript.say("Whom shall I give what? Try: delegate: coder say hello")
        return
    calls = _made(await hands.history())
    for agent, task in tasks[len(calls) :]:
        arguments = {"agent": agent, "task": task}
        calls.append(await transcript.call_tool("delegate_task", arguments))
    answers = await asyncio.gather(*(hands.call_tool(call) for call in calls))
    for answer in answers:
        transcript.read(answer.text, answer.usage)
    told = (
        f"{call.arguments['agent']}: {'✗ ' if answer.is_error else ''}{answer.text}"
        for call, answer in zip(calls, answers, strict=True)
    )
    await transcript.say(mentions.escaped("\n".join(told)))


def _begun(history: Sequence[HistoryMessage]) -> ToolCall | None:
    """Return the call that an earlier attempt of this turn made."""
    return next(iter(_made(history)), None)


def _made(history: Sequence[HistoryMessage]) -> list[ToolCall]:
    """Return the calls that earlier attempts of this turn made, in order."""
    asked = [index for index, each in enumerate(history) if not each.own]
    return [
        ToolCall(id=call["id"], name=call["name"], arguments=call["arguments"])
        for each in history[asked[-1] + 1 if asked else 0 :]
        if each.role == "assistant"
        for call in tool_calls(each.message)
    ]


def _report(details: Mapping[str, Any]) -> str:
    if "interrupted" in details:
        return "Nobody knows how the command ended."
    if "exitCode" not in details:
        return "The command did not run."
    if details["timedOut"]:
        seconds = details["durationMs"] / 1000
        return f"The command was stopped after {seconds:.0f} s, its time limit."
    by_signal = f" ({details['signal']})" if details["signal"] else ""
    return f"The command ended with exit code {details['exitCode']}{by_signal}."
