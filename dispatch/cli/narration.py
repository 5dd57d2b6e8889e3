"""One line of prose per event that is not somebody's words."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from dispatch.cli import asking
from dispatch.cli.output import Look
from dispatch.models import endings
from dispatch.payloads import signals
from dispatch.payloads.chat import Author
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
            return Remark(f"· {name_of(payload.agent_id)} is asked{_place(payload)}")
        case signals.Started():
            return Remark(f"· {name_of(payload.agent_id)} starts{_attempt(payload)}")
        case signals.EntryWritten():
            return Remark(f"· {name_of(payload.agent_id)} is busy: written down, no turn")
        case signals.Completed() | signals.Failed() | signals.Cancelled():
            return _terminal(payload)
        case signals.Heartbeat():
            return None
        case _:
            return _news(payload, name_of)


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
            cause, _ = endings.explain(payload)
            why = f" {payload.message}" if payload.message else ""
            return Remark(f"✗ cancelled{_by(payload.by)}: {cause}{why}", "error")


def _news(payload: signals.Signal, name_of: NameOf) -> Remark | None:
    if isinstance(payload, signals.StreamRollback):
        return Remark(_ROLLED_BACK, "error")
    text = (
        _busy_news(payload)
        or _dispatch_news(payload)
        or _task_news(payload, name_of)
        or asking.news(payload)
        or _thread_news(payload)
    )
    return Remark(f"· {text}") if text else None


_ROLLED_BACK: Final = (
    "✗ the server of the streams came back without the newest entries: what stood after this "
    "is lost, and turns that were open have failed"
)


def _place(payload: signals.Queued) -> str:
    if payload.steers is not None:
        return ", to join the turn that runs"
    return ", before all that wait" if payload.first else ""


def _attempt(payload: signals.Started) -> str:
    attempt = f", attempt {payload.attempt}" if payload.attempt > 1 else ""
    return f"{attempt}, from its checkpoint" if payload.checkpoint_id else attempt


def _busy_news(payload: signals.Signal) -> str | None:
    """Tell what became of an entry whose agent was busy."""
    match payload:
        case signals.Steered():
            return f"taken into the turn that runs, at its step {payload.step}"
        case signals.FellThrough():
            return "the turn to join ended first; this will be a turn of its own"
        case signals.RolledBack():
            return f"rolled back{_by(payload.by)}: entry and turn count no more"
        case signals.CancelRequested():
            why = _STOPPED.get(payload.reason, "")
            message = f": {payload.message}" if payload.message else ""
            return f"asked to stop{_by(payload.by)}{why}{message}"
        case _:
            return None


_STOPPED: Final = {
    "interrupted": ", since a newer entry takes its place",
    "rolled_back": ", since a newer entry replaces its entry",
    "cascade": ", with the thread it belongs to",
    "no_progress": ", since its agent says nothing",
}


def _dispatch_news(payload: signals.Signal) -> str | None:
    match payload:
        case signals.Released():
            return "the worker gave the turn back; another one takes it"
        case signals.RunLost():
            return f"attempt {payload.attempt} {_loss(payload)}; it is tried again"
        case signals.Checkpoint():
            return "checkpoint: from here another run could go on"
        case signals.NoProgress():
            return f"the agent says nothing{_patience(payload)}"
        case signals.Retrying():
            cause = f" ({payload.error_message})" if payload.error_message else ""
            return (
                f"the model call failed{cause}; attempt {payload.attempt} of "
                f"{payload.max_attempts} in {payload.delay_ms / 1000:g} s"
            )
        case _:
            return None


def _task_news(payload: signals.Signal, name_of: NameOf) -> str | None:
    match payload:
        case signals.Delegated():
            return f"{name_of(payload.agent_id)} is given a task: thread {payload.thread_id}"
        case signals.DelegationEnded():
            return f"the task {_DELEGATION[payload.status]}"
        case _:
            return None


_DELEGATION: Final = {
    "completed": "is done",
    "failed": "failed",
    "cancelled": "was cancelled",
    "expired": "took too long and was given up",
}


def _unheard(payload: signals.HopLimit) -> str:
    names = ", ".join(f"@{handle}" for handle in payload.mentions)
    inline = "one after the other" if payload.reason == "hops" else "in all"
    return (
        f"{names} not woken: agents have woken each other {payload.limit} times {inline} "
        "since a person spoke"
    )


def _loss(payload: signals.RunLost) -> str:
    cause = "was lost with its worker"
    if payload.reason == "error":
        cause = "failed" + (f" ({payload.message})" if payload.message else "")
    return cause + (" in the middle" if payload.effects else "")


def _patience(payload: signals.NoProgress) -> str:
    if payload.deadline is None:
        return ""
    return f"; after {(payload.deadline - payload.since_ms) / 1000:g} s of that it is stopped"


def _by(author: Author | None) -> str:
    return f" by {author.name or author.kind}" if author else ""


def _thread_news(payload: signals.Signal) -> str | None:
    match payload:
        case signals.ThreadCreated():
            return "thread created" + (f": {payload.name}" if payload.name else "")
        case signals.ThreadRenamed():
            return f"thread renamed: {payload.name}" if payload.name else "thread untitled"
        case signals.HopLimit():
            return _unheard(payload)
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
