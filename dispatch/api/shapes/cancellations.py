"""Cancels that reach many dispatches, on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from dispatch import clock
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, IfStatus, Milliseconds, examples
from dispatch.models.cancellations import Cancellation

Message = Annotated[
    str | None, Field(max_length=2000, description="Why; shown on every stream it reaches.")
]


class CancelThread(Body):
    """What to end, and why."""

    model_config = shapes.example(message="Wrong branch.", cascade=True)

    message: Message = None
    cascade: Annotated[
        bool, Field(description="All threads below it too, whatever they work for.")
    ] = True
    if_status: IfStatus = []


class CancelHouse(Body):
    """What to end, and why."""

    model_config = shapes.example(message="Fire drill.", tag="nightly")

    message: Message = None
    tag: Annotated[
        str | None, Field(description="Only threads with this tag, and all below those.")
    ] = None


class CancelledBy(Answer):
    """Who asked."""

    model_config = shapes.example(kind="member", id=examples.MEMBER_ID, name="Ada")

    kind: Literal["member", "agent", "service"]
    id: str
    name: str | None = None


class CancellationAnswer(Answer):
    """What was asked, and how far it has come. A running turn ends within its grace then."""

    model_config = shapes.example(**examples.CANCELLATION)

    id: str
    thread_id: Annotated[str | None, Field(description="Absent: the whole house.")] = None
    dispatch_id: Annotated[
        str | None, Field(description="All that works for this dispatch of the thread.")
    ] = None
    tag: str | None = None
    cascade: bool
    by: CancelledBy
    message: str | None = None
    done: Annotated[bool, Field(description="All that is meant has ended or was asked to end.")]
    threads: Annotated[int, Field(description="In which anything was ended or asked.")]
    cancelled: Annotated[int, Field(description="Waiting turns that were ended.")]
    requested: Annotated[int, Field(description="Running turns that were asked to end.")]
    requested_at: Milliseconds
    done_at: Milliseconds | None = None


def cancellation(row: Cancellation) -> CancellationAnswer:
    """Show a cancellation."""
    return CancellationAnswer(
        id=str(row.id),
        thread_id=None if row.thread_id is None else str(row.thread_id),
        dispatch_id=row.dispatch_id,
        tag=row.tag,
        cascade=row.cascade,
        by=CancelledBy(kind=row.by_kind, id=row.by_id, name=row.by_name),
        message=row.message,
        done=row.done_at is not None,
        threads=row.thread_count,
        cancelled=row.cancelled_count,
        requested=row.requested_count,
        requested_at=clock.milliseconds(row.requested_at),
        done_at=shapes.milliseconds(row.done_at),
    )
