"""Dispatches, repairs and health on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, Milliseconds, examples
from dispatch.models.threads import ThreadStatus


class CancelDispatch(Body):
    """Why; shown on the stream."""

    model_config = shapes.example(message="No longer needed.")

    message: Annotated[str | None, Field(max_length=2000)] = None


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
        attempt=1,
        maxAttempts=3,
        runId="5f0c1b2a3d4e",
        workerId="host.4711.9a8b7c",
    )

    id: str
    thread_id: str
    agent_id: str
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    attempt: int
    max_attempts: int | None = None
    queue_position: Annotated[int | None, Field(description="0: next in its lane.")] = None
    run_id: str | None = None
    worker_id: str | None = None
    cancel_deadline_ms: Milliseconds | None = None
    reason: str | None = None
    message: str | None = None
    terminal_id: str | None = None


class CancelAnswer(Answer):
    """`cancelled`: ended now; `requested`: its run was asked to end; else how it had ended."""

    model_config = shapes.example(status="requested")

    status: Literal["cancelled", "requested", "completed", "failed"]


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
