"""Dispatches, repairs and health on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, IfStatus, Milliseconds, examples
from dispatch.models.threads import ThreadStatus
from dispatch.operations.receipts import Receipt


class CancelDispatch(Body):
    """Why; shown on the stream."""

    model_config = shapes.example(message="No longer needed.")

    message: Annotated[str | None, Field(max_length=2000)] = None
    cascade: Annotated[
        bool, Field(description="What works for it too (`parentDispatchId`).")
    ] = True
    if_status: IfStatus = []


class Prune(Body):
    """How to sweep the house."""

    model_config = shapes.example(dryRun=True)

    dry_run: bool = False


class DispatchAnswer(Answer):
    """How a turn stands."""

    model_config = shapes.example(
        id=examples.DISPATCH_ID,
        threadId=examples.THREAD_ID,
        agentId=examples.AGENT_ID,
        status="running",
        receipt="delivered",
        attempt=1,
        maxAttempts=3,
        runId="5f0c1b2a3d4e",
        workerId="host.4711.9a8b7c",
    )

    id: str
    thread_id: str
    agent_id: str
    status: Annotated[
        Literal["queued", "running", "waiting", "completed", "failed", "cancelled", "steered"],
        Field(
            description="`waiting`: for the answer to what it asked (`/permissions`); it may "
            "hold no worker. `steered`: its entry was taken into another dispatch's turn."
        ),
    ]
    receipt: Annotated[
        Receipt,
        Field(
            description="How far its entry came: it waits (`accepted`), went to a run of its "
            "own or into another's turn (`delivered`), found the turn it was to join over and "
            "waits for one of its own (`fell_through`), or was `withdrawn` before that."
        ),
    ]
    attempt: int
    max_attempts: int | None = None
    queue_position: Annotated[int | None, Field(description="0: next in its lane.")] = None
    run_id: str | None = None
    worker_id: str | None = None
    cancel_deadline_ms: Milliseconds | None = None
    reason: str | None = None
    message: str | None = None
    terminal_id: str | None = None
    into: Annotated[
        str | None, Field(description="The dispatch whose turn took its entry in, …")
    ] = None
    step: Annotated[int | None, Field(description="… and at which step of it.")] = None


class CancelAnswer(Answer):
    """`cancelled`: ended now; `requested`: its run was asked to end; else how it had ended."""

    model_config = shapes.example(status="requested")

    status: Literal["cancelled", "requested", "completed", "failed", "steered"]
    cancellation_id: Annotated[
        str | None, Field(description="The cancel of what works for it; absent: nothing does.")
    ] = None


class ReconcileAnswer(Answer):
    """What the row said before and says now."""

    model_config = shapes.example(before="running", after="failed", changed=True)

    before: ThreadStatus
    after: ThreadStatus
    changed: bool


class PruneAnswer(Answer):
    """What a sweep of the house counted."""

    model_config = shapes.example(
        checked=12, repaired=2, orphans=0, deletions=1, unavailable=0, dryRun=False
    )

    checked: int
    repaired: int
    orphans: int
    deletions: int
    unavailable: int
    dry_run: bool


class HealthAnswer(Answer):
    """Which servers answer. A broker that is down delays turns, it loses none."""

    model_config = shapes.example(status="ok", redis="up", postgres="up", broker="up")

    status: Literal["ok", "degraded", "down"]
    redis: Literal["up", "down"]
    postgres: Literal["up", "down"]
    broker: Literal["up", "down"]
