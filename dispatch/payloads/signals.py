"""What happened to a thread, a house or a dispatch. Written by transitions, not by agents.

Lua builds most of these (`streams/scripts`); the structs are how Python reads them, and the
contract the scripts are tested against. Times and durations carry their unit in the name.
"""

from typing import Literal

import msgspec

from dispatch.payloads.chat import Author
from dispatch.payloads.usage import TokenUsage


class Signal(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    omit_defaults=True,
    kw_only=True,
    tag_field="type",
):
    """Base of all signals."""


class ThreadCreated(Signal, frozen=True, tag="signal.thread.created"):
    """First entry of every stream."""

    by: Author | None = None
    name: str | None = None


class ThreadRenamed(Signal, frozen=True, tag="signal.thread.renamed"):
    """The thread's name changed; None: it became untitled."""

    name: str | None = None
    by: Author | None = None


class SessionOrphaned(Signal, frozen=True, tag="signal.thread.pi_session_orphaned"):
    """The run behind a dispatch went silent for good; its thread is `failed`."""

    dispatch_id: str
    reason: str
    run_id: str | None = None


class HouseAgentCreated(Signal, frozen=True, tag="signal.house.agent_created"):
    """An agent joined the house."""

    agent_id: str
    handle: str


class HouseAgentDeleted(Signal, frozen=True, tag="signal.house.agent_deleted"):
    """An agent left the house."""

    agent_id: str
    handle: str


class HouseRenamed(Signal, frozen=True, tag="signal.house.renamed"):
    """The house has another name."""

    name: str


class Queued(Signal, frozen=True, tag="signal.dispatch.queued"):
    """An entry asked an agent for a turn; this is the dispatch's birth."""

    dispatch_id: str
    entry_id: str
    agent_id: str
    max_attempts: int


class Started(Signal, frozen=True, tag="signal.dispatch.started"):
    """A worker holds the dispatch; every write of the run names this `runId`."""

    dispatch_id: str
    agent_id: str
    attempt: int
    run_id: str
    worker_id: str
    lease_ms: int
    hard_ms: int


class Heartbeat(Signal, frozen=True, tag="signal.dispatch.heartbeat"):
    """The run lives though it was silent. Ephemeral; only the newest of a run is kept."""

    dispatch_id: str
    run_id: str


class Released(Signal, frozen=True, tag="signal.dispatch.released"):
    """The worker gave the dispatch back before it did anything visible; no attempt is burnt."""

    dispatch_id: str
    run_id: str


class RunLost(Signal, frozen=True, tag="signal.dispatch.run_lost"):
    """The run went silent before any visible effect; the dispatch is queued again."""

    dispatch_id: str
    run_id: str
    attempt: int
    not_before: int
    """Unix milliseconds before which no attempt starts."""


class Retrying(Signal, frozen=True, tag="signal.dispatch.retrying"):
    """The agent's model call failed and the agent tries again by itself."""

    attempt: int
    max_attempts: int
    delay_ms: int
    error_message: str | None = None


class CancelRequested(Signal, frozen=True, tag="signal.dispatch.cancel_requested"):
    """Somebody asked the running dispatch to end; it has until `deadline` (Unix ms)."""

    dispatch_id: str
    deadline: int
    by: Author | None = None
    message: str | None = None


class Completed(Signal, frozen=True, tag="signal.dispatch.completed"):
    """Terminal: the turn ended by itself."""

    dispatch_id: str
    run_id: str | None = None
    usage: TokenUsage | None = None


class Failed(Signal, frozen=True, tag="signal.dispatch.failed"):
    """Terminal: ended with an error; `reason` is a stable word, `message` is for people."""

    dispatch_id: str
    reason: str
    run_id: str | None = None
    message: str | None = None
    usage: TokenUsage | None = None


class Cancelled(Signal, frozen=True, tag="signal.dispatch.cancelled"):
    """Terminal: ended on request, before it started, by its run, or after the grace."""

    dispatch_id: str
    reason: str
    run_id: str | None = None
    by: Author | None = None
    message: str | None = None
    usage: TokenUsage | None = None


Terminal = Completed | Failed | Cancelled
TerminalWord = Literal["completed", "failed", "cancelled"]
