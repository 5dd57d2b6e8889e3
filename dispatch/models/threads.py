"""A thread's row as a value, its reference on the stream side, and its status vocabulary."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from dispatch.errors import Conflict
from dispatch.ids import (
    AgentId,
    DispatchId,
    EntryId,
    EnvironmentId,
    HouseId,
    SandboxId,
    ThreadId,
)
from dispatch.models.houses import TriggerMode, WhenBusy
from dispatch.payloads.policy import DispatchPolicy
from dispatch.payloads.usage import UsageTotals

ThreadStatus = Literal["open", "idle", "running", "completed", "failed", "cancelled"]
ParentKind = Literal["house", "agent", "thread"]


def status_mismatch(thread_id: ThreadId, status: ThreadStatus) -> Conflict:
    """Return the refusal of a call that named other statuses than the thread has."""
    return Conflict(
        "status_mismatch",
        f"Thread {thread_id} is {status}, which `ifStatus` does not name.",
        next_step="Look at the thread, then decide again.",
        threadStatus=status,
    )


class Parent(msgspec.Struct, frozen=True):
    """Where a thread lives; computed from the typed edges, never stored."""

    kind: ParentKind
    id: str


class Thread(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One row. `stream_id` is the watermark: the entry this row's status reflects."""

    id: ThreadId
    house_id: HouseId
    parent_thread_id: ThreadId | None = None
    parent_agent_id: AgentId | None = None
    parent_dispatch_id: DispatchId | None = None
    """Which dispatch of the parent thread this sub-job works for; it is cancelled with that."""
    parent_call_id: str | None = None
    """Which tool call of that dispatch it is the task of; None: no agent gave it."""
    name: str | None = None
    pinned_at: datetime | None = None
    tags: list[str] = []
    environment_id: EnvironmentId | None = None
    sandbox_id: SandboxId | None = None
    status: ThreadStatus
    usage: UsageTotals = UsageTotals()
    config: dict[str, Any] = {}
    key: str | None = None
    when_busy: WhenBusy | None = None
    """For entries that do not say; None: as the house says."""
    metadata: dict[str, Any] = {}
    """What its makers note on it, as they like; nothing here reads it."""
    expires_at: datetime | None = None
    """From then on it takes no entries and a sweep removes it; None: never."""
    archived_at: datetime | None = None
    """When entries of it were last moved out of Redis; None: all are there."""
    previous_thread_id: ThreadId | None = None
    """The thread whose conversation this one goes on with."""
    stream_id: EntryId = EntryId("")
    created_at: datetime
    updated_at: datetime

    @property
    def parent(self) -> Parent:
        """Return the union over the typed edges: thread, agent, else house."""
        if self.parent_thread_id is not None:
            return Parent("thread", str(self.parent_thread_id))
        if self.parent_agent_id is not None:
            return Parent("agent", str(self.parent_agent_id))
        return Parent("house", str(self.house_id))

    @property
    def is_sub_job(self) -> bool:
        """Tell which vocabulary its status uses: a sub-job's, else a chat's."""
        return self.parent_thread_id is not None


class NewThread(msgspec.Struct, frozen=True, kw_only=True):
    """What a thread is born with; status and times are not the caller's to choose."""

    id: ThreadId | None = None
    """Reserved before; None: chosen when it is inserted."""
    house_id: HouseId
    parent_thread_id: ThreadId | None = None
    parent_agent_id: AgentId | None = None
    parent_dispatch_id: DispatchId | None = None
    name: str | None = None
    pinned_at: datetime | None = None
    tags: list[str] = []
    environment_id: EnvironmentId | None = None
    config: dict[str, Any] = {}
    key: str | None = None
    when_busy: WhenBusy | None = None
    metadata: dict[str, Any] = {}
    expires_at: datetime | None = None
    previous_thread_id: ThreadId | None = None


class ThreadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which threads of a house a list shows; what is None does not matter."""

    status: ThreadStatus | None = None
    tag: str | None = None
    parent: Parent | None = None
    """A parent of kind `house` means: threads at the house's root."""
    pinned: bool | None = None
    name: str | None = None
    """A part of the name, in any case."""
    key_prefix: str | None = None


class KeyedThread(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a get-or-create."""

    thread: Thread
    created: bool


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream tells about its row at `stream_id`, in both status vocabularies."""

    thread_id: ThreadId
    chat_status: ThreadStatus
    sub_job_status: ThreadStatus
    usage: UsageTotals
    stream_id: EntryId


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """A thread whose row is gone. `done_at` None: its stream may still be there."""

    thread_id: ThreadId
    house_id: HouseId
    requested_at: datetime
    done_at: datetime | None = None


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """An agent of the thread's house as seen from one thread: whom an entry may wake."""

    agent_id: AgentId
    handle: str
    trigger_mode: TriggerMode
    """The thread's override, else `always` in the agent's direct thread, else the house's."""
    queue: str
    policy: DispatchPolicy
    is_direct: bool = False
    """True: the thread is a direct one with this agent."""


class ThreadAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent of the house, and when entries of one thread wake it."""

    agent_id: AgentId
    handle: str
    trigger_mode: TriggerMode
    """What holds in this thread."""
    source: Literal["thread", "direct", "house"]
    """Who says so: the thread's override, a direct thread by itself, or the house."""


class ThreadAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that a caller may act on a thread.

    Only `stores.postgres.threads` makes one, from a row that row level security let through.
    """

    thread_id: ThreadId
    house_id: HouseId
    is_sub_job: bool
    listeners: tuple[Listener, ...]
    stream_id: EntryId
    """The row's watermark when it was read: a stream shorter than this has forgotten."""
    when_busy: WhenBusy = "enqueue"
    """For entries that do not say: the thread's word, else the house's."""
    is_expired: bool = False
    """True: its time was over when the row was read; nothing is posted to it any more."""
    next_thread_id: ThreadId | None = None
    """In which thread this one, being archived, goes on: there entries are taken."""
