"""A thread's statistics and the cleanup of threads, over HTTP."""

from http import HTTPStatus

from fastapi import APIRouter

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute
from dispatch.api.routes import Ref
from dispatch.api.shapes import lifecycle as shapes
from dispatch.api.shapes.lifecycle import CleanedUpAnswer, CleanUpThreads, StatsAnswer
from dispatch.operations import cleanup, refs, thread_stats

router = APIRouter(prefix="/threads", tags=["threads"], route_class=KeyedRoute)


@router.post(
    "/cleanup",
    summary="Delete old threads, a batch at a time",
    response_model_exclude_none=True,
    responses=problems.responses(),
)
async def clean_up(body: CleanUpThreads, who: Who, record: Held) -> CleanedUpAnswer:
    """Delete what has been silent for long or has expired, each with all below it.

    Never the primary thread; running and pinned ones only if the body says so.
    """
    done = await cleanup.clean_up(
        record, who, body.where, dry_run=body.dry_run, limit=body.limit, cursor=body.cursor
    )
    return shapes.cleaned_up(done)


@router.get(
    "/{ref}/stats",
    summary="Count a thread's messages and runs",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def get_stats(ref: Ref, who: Who, record: Held) -> StatsAnswer:
    """Return counts, the last run, usage and the thread's state; the thread is repaired."""
    thread_id = await refs.thread(record, who, ref)
    return shapes.stats(await thread_stats.read(record, who, thread_id))
