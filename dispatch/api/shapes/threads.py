"""Threads on the wire."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from dispatch import clock
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, IfStatus, Milliseconds, examples
from dispatch.models.houses import WhenBusy
from dispatch.models.threads import ParentKind, Thread, ThreadStatus


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
        str | None, Field(description="One thread per key: the second call gets the first's.")
    ] = None
    config: dict[str, Any] = Field(default_factory=dict[str, Any])
    metadata: Annotated[
        dict[str, Any], Field(description="Whatever you like to note; returned as it is.")
    ] = Field(default_factory=dict[str, Any])
    message: Annotated[
        str | None, Field(description="First entry; only this may wake an agent.")
    ] = None
    when_busy: Annotated[
        WhenBusy | None, Field(description="For entries that do not say themselves.")
    ] = None


class ChangeThread(Body):
    """What shall be different; `name: null`: untitled, `whenBusy: null`: as the house says."""

    model_config = shapes.example(
        name="Release 1.0", pinned=True, tags=["release"], whenBusy="steer"
    )

    name: str | None = None
    pinned: bool = False
    tags: list[str] = Field(default_factory=list[str])
    when_busy: WhenBusy | None = None
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
    """Tokens all runs of the thread have used."""

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
    name: str | None = None
    pinned_at: Milliseconds | None = None
    tags: list[str]
    environment_id: str | None = None
    sandbox_id: str | None = None
    status: ThreadStatus
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


def thread(row: Thread) -> ThreadAnswer:
    """Show a thread."""
    parent = row.parent
    return ThreadAnswer(
        id=str(row.id),
        house_id=str(row.house_id),
        parent=ParentAnswer(kind=parent.kind, id=parent.id),
        parent_thread_id=_text(row.parent_thread_id),
        parent_agent_id=_text(row.parent_agent_id),
        parent_dispatch_id=row.parent_dispatch_id,
        name=row.name,
        pinned_at=shapes.milliseconds(row.pinned_at),
        tags=row.tags,
        environment_id=_text(row.environment_id),
        sandbox_id=_text(row.sandbox_id),
        status=row.status,
        usage=UsageAnswer.model_validate(row.usage.to_wire(), by_alias=True, by_name=False),
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


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
