"""A thread's statistics and the cleanup of threads, on the wire."""

from typing import Annotated, Any

from pydantic import Field

from dispatch import clock
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, Milliseconds, examples
from dispatch.api.shapes import threads as thread_shapes
from dispatch.api.shapes.threads import UsageAnswer
from dispatch.models.cleanups import Cleanup
from dispatch.models.lifecycle import LifecycleState
from dispatch.models.stats import LastRun
from dispatch.models.threads import ThreadStatus
from dispatch.operations.cleanup import CleanedUp
from dispatch.operations.thread_stats import ThreadStats

_LAST_RUN: dict[str, Any] = {
    "dispatchId": examples.DISPATCH_ID,
    "agentId": examples.AGENT_ID,
    "status": "completed",
    "queuedAt": examples.AT,
    "startedAt": examples.AT + 12,
    "endedAt": examples.AT + 2900,
}


class LastRunAnswer(Answer):
    """The dispatch that was accepted last."""

    model_config = shapes.example(**_LAST_RUN)

    dispatch_id: str
    agent_id: str | None = None
    status: Annotated[
        str,
        Field(
            description="queued, running, waiting (for an answer), cancelling, completed, "
            "failed, cancelled or steered."
        ),
    ]
    queued_at: Milliseconds
    started_at: Annotated[
        Milliseconds | None, Field(description="Its last attempt; absent: not yet.")
    ] = None
    ended_at: Milliseconds | None = None
    reason: str | None = None


class StatsAnswer(Answer):
    """What a thread holds, and how it stands."""

    model_config = shapes.example(
        threadId=examples.THREAD_ID,
        createdAt=examples.AT,
        state="completed",
        hasActiveRun=False,
        messageCount=2,
        runCount=1,
        entryCount=6,
        lastRun=_LAST_RUN,
        metadata={"user_id": "17"},
        usage=examples.USAGE,
    )

    thread_id: str
    created_at: Milliseconds
    state: LifecycleState
    has_active_run: Annotated[
        bool, Field(description="A dispatch is queued, running or being cancelled.")
    ]
    message_count: Annotated[int, Field(description="Chat entries and agents' messages.")]
    run_count: Annotated[int, Field(description="Dispatches that were accepted.")]
    entry_count: Annotated[int, Field(description="All durable entries.")]
    last_run: LastRunAnswer | None = None
    metadata: dict[str, Any]
    usage: UsageAnswer
    expires_at: Milliseconds | None = None


class CleanUpThreads(Body):
    """Which threads to delete; all that is said must hold of a thread."""

    model_config = shapes.example(olderThan=86400, tag="nightly", dryRun=True)

    older_than: Annotated[
        float | None,
        Field(description="Seconds without a word in it or below it; or `expired`, or both."),
    ] = None
    expired: Annotated[bool, Field(description="Only those whose `expiresAt` has passed.")] = (
        False
    )
    tag: str | None = None
    key_prefix: str | None = None
    status: ThreadStatus | None = None
    running: Annotated[bool, Field(description="Those with open work too: it is cut off.")] = (
        False
    )
    pinned: Annotated[bool, Field(description="Pinned ones too.")] = False
    dry_run: Annotated[bool, Field(description="Judge only, change nothing.")] = False
    limit: Annotated[int | None, Field(description="Threads of this batch; unset: 50.")] = None
    cursor: Annotated[
        str | None, Field(description="`nextCursor` of the batch before; unset: the first.")
    ] = None

    @property
    def where(self) -> Cleanup:
        """Return what is wanted."""
        return Cleanup(
            older_than_seconds=self.older_than,
            expired=self.expired,
            tag=self.tag,
            key_prefix=self.key_prefix,
            status=self.status,
            running=self.running,
            pinned=self.pinned,
        )


class CleanedUpAnswer(Answer):
    """What became of one batch; go on with `nextCursor` until it is absent."""

    model_config = shapes.example(
        deleted=2,
        removable=0,
        running=1,
        recent=0,
        pinned=0,
        changed=0,
        unavailable=0,
        threadIds=[examples.THREAD_ID, examples.PRIMARY_ID],
        nextCursor="0199d2a45b7e7c1d8f003a5b6c7d8e9f",
    )

    deleted: int
    removable: Annotated[int, Field(description="Dry run: would be deleted.")]
    running: Annotated[int, Field(description="Kept: work is open in it or below it.")]
    recent: Annotated[int, Field(description="Kept: something was said since, maybe below.")]
    pinned: Annotated[int, Field(description="Kept: one below it is pinned.")]
    changed: Annotated[int, Field(description="Kept: it went on while we looked.")]
    unavailable: Annotated[int, Field(description="Kept: it could not be looked at now.")]
    thread_ids: Annotated[list[str], Field(description="Those that were deleted, or would be.")]
    next_cursor: str | None = None


def stats(found: ThreadStats) -> StatsAnswer:
    """Show a thread's statistics."""
    row, counts = found.row, found.counts
    return StatsAnswer(
        thread_id=str(row.id),
        created_at=clock.milliseconds(row.created_at),
        state=found.state,
        has_active_run=found.has_active_run,
        message_count=counts.messages,
        run_count=counts.runs,
        entry_count=counts.entries,
        last_run=None if counts.last_run is None else _last_run(counts.last_run, found),
        metadata=row.metadata,
        usage=thread_shapes.usage(row),
        expires_at=shapes.milliseconds(row.expires_at),
    )


def cleaned_up(done: CleanedUp) -> CleanedUpAnswer:
    """Show what became of a batch."""
    counts = done.counts
    return CleanedUpAnswer(
        deleted=counts["deleted"],
        removable=counts["removable"],
        running=counts["running"],
        recent=counts["recent"],
        pinned=counts["pinned"],
        changed=counts["changed"],
        unavailable=counts["unavailable"],
        thread_ids=[str(each) for each in done.thread_ids],
        next_cursor=done.next_cursor,
    )


def _last_run(run: LastRun, found: ThreadStats) -> LastRunAnswer:
    return LastRunAnswer(
        dispatch_id=run.dispatch_id,
        agent_id=run.agent_id,
        status=found.last_status or "queued",
        queued_at=run.queued_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        reason=run.reason,
    )
