"""One line of prose per event that is not somebody's words."""

from collections.abc import Callable
from typing import Any

import msgspec

from dispatch.cli.output import Look
from dispatch.models import endings
from dispatch.payloads import signals
from dispatch.payloads.llm import Compaction, ToolResult
from dispatch.payloads.usage import TokenUsage

NameOf = Callable[[str | None], str]


class Remark(msgspec.Struct, frozen=True):
    """A line, and how it looks."""

    text: str
    look: Look = "dim"


class _Details(msgspec.Struct, rename="camel"):
    exit_code: int


def signal(payload: signals.Signal, name_of: NameOf) -> Remark | None:
    """Return the remark on a signal; None for those that only say "alive"."""
    match payload:
        case signals.Queued():
            return Remark(f"· {name_of(payload.agent_id)} is asked")
        case signals.Started(attempt=1):
            return Remark(f"· {name_of(payload.agent_id)} starts")
        case signals.Started():
            return Remark(f"· {name_of(payload.agent_id)} starts, attempt {payload.attempt}")
        case signals.Completed() | signals.Failed() | signals.Cancelled():
            return _terminal(payload)
        case signals.Heartbeat():
            return None
        case _:
            text = _dispatch_news(payload) or _thread_news(payload)
            return Remark(f"· {text}") if text else None


def tool_call(name: str, arguments: dict[str, Any]) -> str:
    """Return how a call reads: a command as `$ …`, anything else as name and arguments."""
    command = arguments.get("command")
    if isinstance(command, str) and len(arguments) == 1:
        return f"$ {command}"
    return f"→ {name} {msgspec.json.encode(arguments).decode()}"


def tool_result(payload: ToolResult) -> str:
    """Return the line under a tool's output."""
    facts: list[str] = []
    try:
        details = msgspec.convert(payload.message.get("details"), _Details)
        facts.append(f"exit code {details.exit_code}")
    except msgspec.ValidationError:
        pass  # only commands have an exit code
    if payload.duration_ms is not None:
        facts.append(f"{payload.duration_ms} ms")
    mark = "✗" if payload.is_error else "✓"
    return f"{mark} {payload.tool_name}" + (f" ({', '.join(facts)})" if facts else "")


def compaction(payload: Compaction) -> str:
    """Return the remark on a summarised context."""
    if payload.aborted:
        return f"· context not summarised: {payload.error_message or payload.reason}"
    return f"· context summarised ({payload.reason})"


def _terminal(payload: signals.Terminal) -> Remark:
    used = _used(payload.usage)
    match payload:
        case signals.Completed():
            return Remark(f"· completed{used}")
        case signals.Failed():
            cause, next_step = endings.explain(payload)
            return Remark(f"✗ failed ({payload.reason}): {cause}\n  {next_step}", "error")
        case signals.Cancelled():
            by = f" by {payload.by.name or payload.by.kind}" if payload.by else ""
            cause, _ = endings.explain(payload)
            why = f" {payload.message}" if payload.message else ""
            return Remark(f"✗ cancelled{by}: {cause}{why}", "error")


def _dispatch_news(payload: signals.Signal) -> str | None:
    match payload:
        case signals.Released():
            return "the worker gave the turn back; another one takes it"
        case signals.RunLost():
            return f"attempt {payload.attempt} was lost with its worker; it is tried again"
        case signals.Retrying():
            cause = f" ({payload.error_message})" if payload.error_message else ""
            return (
                f"the model call failed{cause}; attempt {payload.attempt} of "
                f"{payload.max_attempts} in {payload.delay_ms / 1000:g} s"
            )
        case signals.CancelRequested():
            by = f" by {payload.by.name or payload.by.kind}" if payload.by else ""
            return f"asked to stop{by}" + (f": {payload.message}" if payload.message else "")
        case _:
            return None


def _thread_news(payload: signals.Signal) -> str | None:
    match payload:
        case signals.ThreadCreated():
            return "thread created" + (f": {payload.name}" if payload.name else "")
        case signals.ThreadRenamed():
            return f"thread renamed: {payload.name}" if payload.name else "thread untitled"
        case signals.SessionOrphaned():
            return f"the session was orphaned ({payload.reason})"
        case _:
            return _house_news(payload)


def _house_news(payload: signals.Signal) -> str | None:
    match payload:
        case signals.HouseAgentCreated():
            return f"@{payload.handle} joined the house"
        case signals.HouseAgentDeleted():
            return f"@{payload.handle} left the house"
        case signals.HouseRenamed():
            return f"the house is now called {payload.name}"
        case _:
            return None


def _used(usage: TokenUsage | None) -> str:
    if usage is None or not usage.total_tokens:
        return ""
    cost = f", ${usage.cost.total:.4f}" if usage.cost.total else ""
    return f", {usage.total_tokens} tokens{cost}"
