"""Transitions of a run by its worker: claim, append, renew, take, finish, release, retry.

Every write carries the fence (dispatch, attempt, run) and, where it adds events, a producer
sequence 1, 2, 3 …; the script refuses any other. All may be sent twice: a repeated claim by the
same run id, append by the same sequence, and finish are answered as the first time.
"""

from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from dispatch import payloads
from dispatch.errors import Conflict, Fenced
from dispatch.ids import (
    AgentId,
    DispatchId,
    EntryId,
    RunId,
    ThreadId,
    WorkerId,
    entry_id_of,
)
from dispatch.models import edits, state
from dispatch.payloads import usage as usages
from dispatch.payloads.content import open_calls
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.signals import (
    Checkpoint,
    Completed,
    Delegated,
    Failed,
    PermissionRequested,
)
from dispatch.payloads.signals import Terminal as TerminalPayload
from dispatch.payloads.usage import TokenUsage
from dispatch.streams import keys
from dispatch.streams.scripts import Scripts


class Fence(msgspec.Struct, frozen=True):
    """What every write of a run must carry; the script compares it for equality."""

    thread_id: ThreadId
    lane: AgentId
    dispatch_id: DispatchId
    attempt: int
    run_id: RunId

    @property
    def text(self) -> str:
        """Return the fence as the state hash holds it."""
        return f"{self.dispatch_id},{self.attempt},{self.run_id}"


class Claimed(msgspec.Struct, frozen=True):
    """The lane's first dispatch is ours until the lease ends."""

    fence: Fence
    started_id: EntryId
    entry: bytes
    """The JSON of the chat entry to answer."""
    checkpoint: bytes
    """The JSON of the last `signal.dispatch.checkpoint`; empty: from the start."""


class NotClaimed(msgspec.Struct, frozen=True):
    """Nothing to do here now. `reason`: busy, expired, none, wait, gone, no_thread."""

    reason: str


class Written(msgspec.Struct, frozen=True):
    """A write stands."""

    entry_id: EntryId | None
    """None: it stood already; this was a repeat."""
    cancel_reason: str | None
    """Set once the run was asked to end: requested, cascade, interrupted, no_progress …"""


class Taken(msgspec.Struct, frozen=True):
    """What the turn took in at a step."""

    entries: tuple[tuple[DispatchId, bytes], ...]
    """The steering dispatch, which has ended, and the JSON of its chat entry."""
    cancel_reason: str | None


async def claim(
    scripts: Scripts,
    thread_id: ThreadId,
    lane: AgentId,
    *,
    run_id: RunId,
    worker_id: WorkerId,
    lease_seconds: float,
) -> Claimed | NotClaimed:
    """Take the lane's first dispatch; `started` and the fence stand when this answers."""
    answer = await scripts.run(
        "claim",
        _keys(thread_id, worker_id),
        str(lane),
        run_id,
        worker_id,
        int(lease_seconds * 1000),
    )
    word = answer[0].decode()
    if word != "OK":
        return NotClaimed(word.lower())
    fence = Fence(thread_id, lane, DispatchId(answer[1].decode()), int(answer[2]), run_id)
    return Claimed(fence, EntryId(answer[3].decode()), answer[4], answer[5])


async def append(
    scripts: Scripts,
    fence: Fence,
    events: list[tuple[payloads.KnownPayload, bytes]],
    *,
    n: int,
    max_stream_entries: int,
) -> Written:
    """Append events in order, all or nothing; the first has sequence `n`.

    Args: events: at least one; a checkpoint only as the last.
    Raises: Fenced (stop the run), Conflict (`stream_full`).
    """
    answer = await scripts.run(
        "append",
        [keys.stream(fence.thread_id), keys.state(fence.thread_id)],
        str(fence.lane),
        fence.text,
        n,
        max_stream_entries,
        _effect_of(events),
        *_event_arguments(events),
    )
    return _written(fence, answer)


async def take(scripts: Scripts, fence: Fence, *, n: int, step: int) -> Taken:
    """Take in the entries posted to steer this turn; the first `steered` has sequence `n`.

    Promise: each is delivered once, in the order of posting; a repeat is answered alike.
    Raises: Fenced (stop the run).
    """
    answer = await scripts.run(
        "take",
        [keys.stream(fence.thread_id), keys.state(fence.thread_id)],
        str(fence.lane),
        fence.text,
        n,
        step,
    )
    word = answer[0].decode()
    if word != "OK":
        raise Fenced(fence.dispatch_id, word)
    taken = zip(answer[2::2], answer[3::2], strict=True)
    return Taken(
        tuple((DispatchId(dispatch_id.decode()), raw) for dispatch_id, raw in taken),
        _cancel_reason(answer[1]),
    )


async def renew(scripts: Scripts, fence: Fence) -> Written:
    """Say that a silent run lives.

    Raises: Fenced (stop the run).
    """
    answer = await scripts.run(
        "renew",
        [keys.stream(fence.thread_id), keys.state(fence.thread_id)],
        str(fence.lane),
        fence.text,
    )
    return _written(fence, answer)


async def finish(
    scripts: Scripts,
    fence: Fence,
    terminal: TerminalPayload,
    events: list[tuple[payloads.KnownPayload, bytes]],
    *,
    n: int,
    worker_id: WorkerId,
    redeliver_after_seconds: float,
) -> EntryId:
    """Write the run's last events and its terminal; the lane is free when this answers.

    Returns: the terminal's id, also when it stood already.
    Raises: Fenced.
    """
    if terminal.usage is not None:
        terminal = replace(terminal, usage=usages.bounded(terminal.usage))
    answer = await scripts.run(
        "finish",
        [*_keys(fence.thread_id, worker_id), keys.DIRTY],
        str(fence.lane),
        fence.text,
        n,
        _outcome(terminal),
        int(redeliver_after_seconds * 1000),
        _usage_argument(terminal.usage),
        payloads.encode(terminal),
        *_event_arguments(events),
    )
    word = answer[0].decode()
    if word not in {"OK", "DUPLICATE"}:
        raise Fenced(fence.dispatch_id, word)
    return EntryId(answer[1].decode())


async def release(
    scripts: Scripts, fence: Fence, *, worker_id: WorkerId
) -> Literal["released", "effects", "cancelling"]:
    """Give the dispatch back, without counting the attempt.

    Returns: `effects`: something visible was done since the last checkpoint, so it stays ours;
        `cancelling`: it was asked to end, so it is not given back.
    Raises: Fenced.
    """
    answer = await scripts.run(
        "release", _keys(fence.thread_id, worker_id), str(fence.lane), fence.text
    )
    match answer[0].decode():
        case "OK":
            return "released"
        case "EFFECTS":
            return "effects"
        case "CANCELLING":
            return "cancelling"
        case word:
            raise Fenced(fence.dispatch_id, word)


async def ask(
    scripts: Scripts,
    fence: Fence,
    question: PermissionRequested | Delegated,
    *,
    n: int,
    wait_seconds: float,
) -> Written:
    """Ask people, a program of theirs, or another agent; the record sets the deadline.

    Raises: Fenced (stop the run).
    """
    told, ask = msgspec.to_builtins(question), edits.ask_of(question)
    rest = {name: told[name] for name in told if name not in {"type", "deadline"}}
    answer = await scripts.run(
        "ask",
        [keys.stream(fence.thread_id), keys.state(fence.thread_id)],
        str(fence.lane),
        fence.text,
        n,
        ask.id,
        ask.kind,
        int(wait_seconds * 1000),
        ask.default,
        quote(ask.call_id, safe=""),
        payloads.type_of(question),
        b"," + msgspec.json.encode(rest)[1:],
    )
    return _written(fence, answer)


async def wait(
    scripts: Scripts, fence: Fence, *, worker_id: WorkerId, redeliver_after_seconds: float
) -> Literal["waiting", "answered", "effects", "cancelling"]:
    """Give the dispatch back until what it asked is answered; no attempt is counted.

    Returns: `answered`: nothing is open any more, so it stays ours; `effects`: something
        visible was done that may not happen twice; `cancelling`: it was asked to end.
    Raises: Fenced.
    """
    answer = await scripts.run(
        "wait",
        _keys(fence.thread_id, worker_id),
        str(fence.lane),
        fence.text,
        int(redeliver_after_seconds * 1000),
    )
    match answer[0].decode():
        case "OK":
            return "waiting"
        case "ANSWERED":
            return "answered"
        case "EFFECTS":
            return "effects"
        case "CANCELLING":
            return "cancelling"
        case word:
            raise Fenced(fence.dispatch_id, word)


async def retry(
    scripts: Scripts, fence: Fence, *, message: str, worker_id: WorkerId
) -> Literal["retried", "exhausted", "cancelling"]:
    """Let a dispatch whose agent broke down be tried again after a while.

    Returns: `exhausted`: attempts used up, or something visible done since the last checkpoint;
        `cancelling`: it was asked to end. In both cases it stays ours to end.
    Raises: Fenced.
    """
    answer = await scripts.run(
        "retry",
        _keys(fence.thread_id, worker_id),
        str(fence.lane),
        fence.text,
        f',"message":{msgspec.json.encode(message).decode()}',
    )
    match answer[0].decode():
        case "OK":
            return "retried"
        case "EXHAUSTED":
            return "exhausted"
        case "CANCELLING":
            return "cancelling"
        case word:
            raise Fenced(fence.dispatch_id, word)


def _keys(thread_id: ThreadId, worker_id: WorkerId) -> list[str]:
    return [keys.stream(thread_id), keys.state(thread_id), keys.DUE, keys.runs(worker_id)]


def _event_arguments(
    events: list[tuple[payloads.KnownPayload, bytes]],
) -> list[str | bytes]:
    arguments: list[str | bytes] = []
    for payload, raw in events:
        arguments += ["e" if payloads.is_ephemeral(payload) else "d", raw, _calls_of(payload)]
    return arguments


def _calls_of(payload: payloads.KnownPayload) -> str:
    """Say which tool calls an event announces or answers."""
    match payload:
        case Assistant(message=message):
            calls = state.calls_text(open_calls(message))
            return f"+{calls}" if calls else ""
        case ToolResult(tool_call_id=call_id):
            return f"-{quote(call_id, safe='')}"
        case _:
            return ""


def _written(fence: Fence, answer: list[Any]) -> Written:
    match answer[0].decode():
        case "OK":
            return Written(entry_id_of(answer[1].decode()), _cancel_reason(answer[2]))
        case "DUPLICATE":
            return Written(None, None)
        case "FULL":
            raise Conflict(
                "stream_full",
                f"Thread {fence.thread_id} is full.",
                next_step="Raise ARBE_MAX_STREAM_ENTRIES, or go on in a new thread.",
            )
        case word:
            raise Fenced(fence.dispatch_id, word)


def _cancel_reason(told: bytes) -> str | None:
    """Read `deadline,reason`, or nothing."""
    return told.decode().partition(",")[2] or "requested" if told else None


def _effect_of(events: list[tuple[payloads.KnownPayload, bytes]]) -> str:
    """Say what a batch makes of the run: repeatable from here (c), spoiled (1), or neither."""
    if isinstance(events[-1][0], Checkpoint):
        return "c"
    return "1" if any(payloads.is_effect(payload) for payload, _ in events) else "0"


_NO_USAGE: Final = "0 0 0 0 0 0"


def _usage_argument(usage: TokenUsage | None) -> str:
    if usage is None:
        return _NO_USAGE
    return (
        f"{usage.input} {usage.output} {usage.cache_read} {usage.cache_write} "
        f"{usage.total_tokens} {usages.cost_nanos(usage)}"
    )


def _outcome(terminal: TerminalPayload) -> str:
    match terminal:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case _:
            return "cancelled"
