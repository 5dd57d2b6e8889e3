"""What happened to a thread, a house or a dispatch. Written by transitions, not by agents.

Lua builds most of these (`streams/scripts`); the structs are how Python reads them, and the
contract the scripts are tested against. Times and durations carry their unit in the name.
"""

from typing import Any, Literal

import msgspec

from dispatch.payloads.chat import Author
from dispatch.payloads.policy import DispatchPolicy
from dispatch.payloads.usage import TokenUsage

AskKind = Literal["permission", "output"]
AskDefault = Literal["deny", "grant"]
DelegationEnd = Literal["completed", "failed", "cancelled", "expired"]


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


class StreamRollback(Signal, frozen=True, tag="signal.thread.stream_rollback"):
    """Redis came back without entries that the thread's row remembers.

    What stands before this is all that is left; open dispatches end as failed right after.
    """

    witness: str
    """The entry up to which the row had seen the stream."""
    kept: str | None = None
    """The last entry that is left; None: none was."""
    was_running: bool = False
    """True: work was under way in what was lost, and nobody will end it."""


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


class EntryWritten(Signal, frozen=True, tag="signal.entry.written"):
    """The agent was busy and the entry was only to be written down: no turn comes of it."""

    entry_id: str
    agent_id: str
    active_dispatch_id: str


class Queued(Signal, frozen=True, tag="signal.dispatch.queued"):
    """An entry asked an agent for a turn; this is the dispatch's birth.

    It carries its policy: see `DispatchPolicy` for what its other fields mean.
    """

    dispatch_id: str
    entry_id: str
    agent_id: str
    max_attempts: int
    first: bool = False
    """True: it stands before all others that wait in its lane."""
    steers: str | None = None
    """The running dispatch that may take this one's entry into its turn."""
    repeatable: bool = False
    backoff_ms: int = 1_000
    max_backoff_ms: int = 60_000
    run_timeout_ms: int = 7_200_000
    warn_ms: int = 300_000
    progress_ms: int = 900_000

    @property
    def policy(self) -> DispatchPolicy:
        """Return the limits the dispatch was born with."""
        return DispatchPolicy(
            max_attempts=self.max_attempts,
            repeatable=self.repeatable,
            backoff_ms=self.backoff_ms,
            max_backoff_ms=self.max_backoff_ms,
            run_timeout_ms=self.run_timeout_ms,
            warn_ms=self.warn_ms,
            progress_ms=self.progress_ms,
        )


class Started(Signal, frozen=True, tag="signal.dispatch.started"):
    """A worker holds the dispatch; every write of the run names this `runId`."""

    dispatch_id: str
    agent_id: str
    attempt: int
    run_id: str
    worker_id: str
    lease_ms: int
    hard_ms: int
    checkpoint_id: str | None = None
    """The entry of the checkpoint from which this attempt goes on; None: from the start."""


class Heartbeat(Signal, frozen=True, tag="signal.dispatch.heartbeat"):
    """The run lives though it was silent. Ephemeral; only the newest of a run is kept."""

    dispatch_id: str
    run_id: str


class Released(Signal, frozen=True, tag="signal.dispatch.released"):
    """The worker gave the dispatch back; no attempt is burnt.

    It had done nothing visible, or nothing since its checkpoint, or may do it again.
    """

    dispatch_id: str
    run_id: str


class RunLost(Signal, frozen=True, tag="signal.dispatch.run_lost"):
    """The run ended before its turn did; the dispatch is queued again."""

    dispatch_id: str
    run_id: str
    attempt: int
    not_before: int
    """Unix milliseconds before which no attempt starts."""
    reason: Literal["silent", "worker_dead", "error"] = "silent"
    effects: bool = False
    """True: what the run wrote since its last checkpoint will be written again."""
    message: str | None = None


class Checkpoint(Signal, frozen=True, tag="signal.dispatch.checkpoint"):
    """From here another run can go on: `state` is all it needs of what was done so far."""

    dispatch_id: str
    run_id: str
    state: dict[str, Any]


class Steered(Signal, frozen=True, tag="signal.dispatch.steered"):
    """Terminal of a steering dispatch: its entry was taken into the turn `into`."""

    dispatch_id: str
    entry_id: str
    into: str
    run_id: str
    step: int


class FellThrough(Signal, frozen=True, tag="signal.dispatch.fell_through"):
    """The turn to be steered, `target`, ended first: this one will be a turn of its own."""

    dispatch_id: str
    entry_id: str
    target: str


class RolledBack(Signal, frozen=True, tag="signal.dispatch.rolled_back"):
    """Histories leave out this entry and all that its turn wrote: somebody replaced it."""

    dispatch_id: str
    entry_id: str
    by: Author | None = None


class HopLimit(Signal, frozen=True, tag="signal.dispatch.hop_limit"):
    """The turn's answer names agents, but too many answers have led here: nobody is woken."""

    dispatch_id: str
    entry_id: str
    """The `pi.assistant` entry of the answer."""
    mentions: tuple[str, ...]
    """The handles of those that are not woken."""
    reason: Literal["hops", "replies"]
    """One after the other (`hops`), or in all since a person's entry (`replies`)."""
    limit: int


class NoProgress(Signal, frozen=True, tag="signal.dispatch.no_progress"):
    """A warning: the run lives, but its agent is mute; it is stopped at `deadline`."""

    dispatch_id: str
    run_id: str
    since_ms: int
    deadline: int | None = None
    """Unix milliseconds; None: it is never stopped for that."""


class Waiting(Signal, frozen=True, tag="signal.dispatch.waiting"):
    """The turn waits for answers and holds no worker; it goes on after the last of them."""

    dispatch_id: str
    run_id: str
    until: int
    """Unix milliseconds at which the last of its questions is over."""


class Resumed(Signal, frozen=True, tag="signal.dispatch.resumed"):
    """Every question of a waiting dispatch has its answer: a worker takes it up again."""

    dispatch_id: str


class PermissionRequested(Signal, frozen=True, tag="signal.permission.requested"):
    """A tool call waits for somebody: to be allowed (`permission`), or done (`output`)."""

    permission_id: str
    dispatch_id: str
    agent_id: str
    kind: AskKind
    tool_call_id: str
    tool_name: str
    arguments: dict[str, Any]
    deadline: int
    """Unix milliseconds; then `default` is the answer."""
    default: AskDefault = "deny"


class PermissionGranted(Signal, frozen=True, tag="signal.permission.granted"):
    """Somebody allowed the call; or did it, and this is what came of it."""

    permission_id: str
    dispatch_id: str
    by: Author | None = None
    message: str | None = None
    output: str | None = None
    is_error: bool = False


class PermissionDenied(Signal, frozen=True, tag="signal.permission.denied"):
    """Somebody refused the call; `message` is for the model too."""

    permission_id: str
    dispatch_id: str
    by: Author | None = None
    message: str | None = None


class PermissionExpired(Signal, frozen=True, tag="signal.permission.expired"):
    """Nobody answered in time: `default` holds."""

    permission_id: str
    dispatch_id: str
    default: AskDefault


class Delegated(Signal, frozen=True, tag="signal.dispatch.delegated"):
    """A tool call of the turn gave a task to an agent, who works at it in a thread below."""

    delegation_id: str
    """`<that thread>/<the dispatch there>`."""
    dispatch_id: str
    agent_id: str
    """Who took the task."""
    tool_call_id: str
    thread_id: str
    deadline: int
    """Unix milliseconds; then it is given up."""


class DelegationEnded(Signal, frozen=True, tag="signal.dispatch.delegation_ended"):
    """What came of a task; the call that gave it has this as its result."""

    delegation_id: str
    dispatch_id: str
    status: DelegationEnd
    """`expired`: its time was over before it ended."""
    text: str = ""
    """The last words of whoever took it."""
    reason: str | None = None
    message: str | None = None
    """Why it failed or was cancelled."""
    usage: TokenUsage | None = None
    """What its turn used, all that it delegated itself included."""


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
    reason: str = "requested"
    """requested, cascade, interrupted, rolled_back, or no_progress (by the record itself)."""
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
