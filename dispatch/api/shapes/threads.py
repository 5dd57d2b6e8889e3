"""Threads on the wire."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from dispatch import clock
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, IfStatus, Milliseconds, examples
from dispatch.models.houses import WhenBusy
from dispatch.models.lifecycle import LifecycleState
from dispatch.models.threads import ParentKind, Thread, ThreadStatus

ExpiresAt = Annotated[
    int | str | None,
    Field(
        description="Unix milliseconds, or ISO 8601 with a zone: from then on it takes no "
        "entries, and a sweep removes it."
    ),
]
ExpiresIn = Annotated[
    float | None, Field(description="The same, in seconds from now; one of the two.")
]


class CreateThread(Body):
    """A thread to make, or to get by its `key`."""

    model_config = shapes.example(
        parent="@demo", name="Release notes", tags=["release"], message="run: uname -a"
    )

    parent: Annotated[
        str | None,
        Field(
            description="House (or unset), `@handle` of an agent (a direct thread), or a "
            "thread (a sub-job)."
        ),
    ] = None
    parent_dispatch_id: Annotated[
        str | None,
        Field(
            description="The dispatch of the parent thread that it works for: it is cancelled "
            "with that one."
        ),
    ] = None
    environment: Annotated[
        str | None, Field(description="Bind it to sandboxes of this recipe.")
    ] = None
    name: str | None = None
    tags: list[str] = Field(default_factory=list[str])
    key: Annotated[
        str | None,
        Field(
            description="One thread per key: the second call gets the first's, unless that has "
            "expired: then the key moves to a fresh one."
        ),
    ] = None
    config: dict[str, Any] = Field(default_factory=dict[str, Any])
    metadata: Annotated[
        dict[str, Any], Field(description="Whatever you like to note; returned as it is.")
    ] = Field(default_factory=dict[str, Any])
    expires_at: ExpiresAt = None
    expires_in: ExpiresIn = None
    message: Annotated[
        str | None, Field(description="First entry; only this may wake an agent.")
    ] = None
    when_busy: Annotated[
        WhenBusy | None, Field(description="For entries that do not say themselves.")
    ] = None


class ChangeThread(Body):
    """What shall be different; what is not named stays.

    `name: null`: untitled; `whenBusy: null`: as the house says; `expiresAt: null`: never.
    """

    model_config = shapes.example(
        name="Release 1.0",
        pinned=True,
        tags=["release"],
        whenBusy="steer",
        metadata={"reviewer": "Ada", "draft": None},
        expiresIn=86400,
    )

    name: str | None = None
    pinned: bool = False
    tags: list[str] = Field(default_factory=list[str])
    when_busy: WhenBusy | None = None
    config: Annotated[dict[str, Any], Field(description="Replaces what was there, whole.")] = (
        Field(default_factory=dict[str, Any])
    )
    metadata: Annotated[
        dict[str, Any] | None,
        Field(
            description="A merge patch (RFC 7396): null removes a key, objects merge, all else "
            "replaces; `metadata: null` removes all."
        ),
    ] = None
    expires_at: ExpiresAt = None
    expires_in: ExpiresIn = None
    if_status: IfStatus = []


class ListThreads(BaseModel):
    """Which threads to list; what is unset does not matter."""

    model_config = ConfigDict(extra="forbid")

    status: ThreadStatus | None = None
    tag: str | None = None
    parent: Annotated[
        str | None, Field(description="`house`, an agent's or a thread's reference.")
    ] = None
    pinned: bool | None = None
    q: Annotated[str | None, Field(description="A part of the name, in any case.")] = None
    key_prefix: Annotated[
        str | None, Field(alias="keyPrefix", description="How the key begins.")
    ] = None
    limit: Annotated[int | None, Field(description="Items of a page; unset: 50.")] = None
    cursor: Annotated[
        str | None, Field(description="`nextCursor` of the page before; unset: the first.")
    ] = None


class ParentAnswer(Answer):
    """Where a thread lives."""

    model_config = shapes.example(**examples.THREAD["parent"])

    kind: ParentKind
    id: str


class CostAnswer(Answer):
    """US dollars."""

    model_config = shapes.example(total=0.00021)

    total: float


class UsageAnswer(Answer):
    """Tokens all runs of the thread have used, and the tasks that they gave."""

    model_config = shapes.example(**examples.USAGE)

    input: int
    output: int
    cache_read: int
    cache_write: int
    total_tokens: int
    cost: CostAnswer


class ThreadAnswer(Answer):
    """A conversation's row; what happened in it is on its stream."""

    model_config = shapes.example(**examples.THREAD)

    id: str
    house_id: str
    parent: ParentAnswer
    parent_thread_id: str | None = None
    parent_agent_id: str | None = None
    parent_dispatch_id: Annotated[
        str | None, Field(description="The parent thread's dispatch that it works for.")
    ] = None
    parent_call_id: Annotated[
        str | None,
        Field(description="The `delegate_task` call of that dispatch whose task it is."),
    ] = None
    name: str | None = None
    pinned_at: Milliseconds | None = None
    tags: list[str]
    environment_id: str | None = None
    sandbox_id: str | None = None
    status: ThreadStatus
    state: Annotated[
        LifecycleState | None,
        Field(description="Where it stands in its life; told of one thread, not in lists."),
    ] = None
    usage: UsageAnswer
    config: dict[str, Any]
    key: str | None = None
    when_busy: Annotated[
        WhenBusy | None,
        Field(description="For entries that do not say; unset: as the house says."),
    ] = None
    metadata: dict[str, Any]
    expires_at: Milliseconds | None = None
    archived_at: Milliseconds | None = None
    previous_thread_id: str | None = None
    created_at: Milliseconds
    updated_at: Milliseconds


class ThreadsAnswer(Answer):
    """A page of threads, newest first."""

    model_config = shapes.example(threads=[examples.THREAD], nextCursor=None)

    threads: list[ThreadAnswer]
    next_cursor: str | None = None


def thread(row: Thread, state: LifecycleState | None = None) -> ThreadAnswer:
    """Show a thread."""
    parent = row.parent
    return ThreadAnswer(
        id=str(row.id),
        house_id=str(row.house_id),
        parent=ParentAnswer(kind=parent.kind, id=parent.id),
        parent_thread_id=_text(row.parent_thread_id),
        parent_agent_id=_text(row.parent_agent_id),
        parent_dispatch_id=row.parent_dispatch_id,
        parent_call_id=row.parent_call_id,
        name=row.name,
        pinned_at=shapes.milliseconds(row.pinned_at),
        tags=row.tags,
        environment_id=_text(row.environment_id),
        sandbox_id=_text(row.sandbox_id),
        status=row.status,
        state=state,
        usage=usage(row),
        config=row.config,
        key=row.key,
        when_busy=row.when_busy,
        metadata=row.metadata,
        expires_at=shapes.milliseconds(row.expires_at),
        archived_at=shapes.milliseconds(row.archived_at),
        previous_thread_id=_text(row.previous_thread_id),
        created_at=clock.milliseconds(row.created_at),
        updated_at=clock.milliseconds(row.updated_at),
    )


def usage(row: Thread) -> UsageAnswer:
    """Show what a thread's runs have used."""
    return UsageAnswer.model_validate(row.usage.to_wire(), by_alias=True, by_name=False)


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
