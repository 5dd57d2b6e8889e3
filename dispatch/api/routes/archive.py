"""Archives over HTTP: move a thread's entries out of Redis, and back."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute, NewId
from dispatch.api.routes import Ref
from dispatch.api.shapes import threads as shapes
from dispatch.api.shapes.archive import (
    ArchiveAnswer,
    ArchiveDue,
    ArchiveDueAnswer,
    ArchiveThread,
    RestoreAnswer,
)
from dispatch.operations import archiving, refs, restore_thread

router = APIRouter(prefix="/threads", tags=["archive"], route_class=KeyedRoute)


@router.post(
    "/archive",
    summary="Archive all threads of the house that are due",
    responses=problems.responses(),
)
async def archive_house(
    who: Who, record: Held, body: Annotated[ArchiveDue | None, Body()] = None
) -> ArchiveDueAnswer:
    """Archive what is too long or old, for some seconds at most. A dry run only counts."""
    wanted = body or ArchiveDue()
    counts = await archiving.archive_house(record, who, dry_run=wanted.dry_run)
    return ArchiveDueAnswer(
        checked=counts["checked"],
        due=counts["due"],
        archived=counts["archived"],
        entries=counts["entries"],
        rolled_over=counts["rolled_over"],
        expired=counts["expired"],
        unavailable=counts["unavailable"],
        dry_run=wanted.dry_run,
    )


@router.post(
    "/{ref}/archive",
    summary="Archive a thread",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE),
)
async def archive_thread(
    ref: Ref,
    who: Who,
    record: Held,
    new_id: NewId,
    body: Annotated[ArchiveThread | None, Body()] = None,
) -> ArchiveAnswer:
    """Move its entries out of Redis, but those that open work needs. It reads as before.

    After a roll-over it refuses entries (409 `rolled_over`) until it is restored.
    """
    wanted = body or ArchiveThread()
    thread_id = await refs.thread(record, who, ref)
    done = await archiving.archive(
        record, who, thread_id, rolls_over=wanted.roll_over, new_id=new_id
    )
    made = done.next_thread
    return ArchiveAnswer(
        thread=shapes.thread(done.thread),
        entries=done.moved.entries,
        segments=done.moved.segments,
        next_thread=None if made is None else shapes.thread(made),
    )


@router.post(
    "/{ref}/restore",
    summary="Restore a thread",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE),
)
async def restore(ref: Ref, who: Who, record: Held) -> RestoreAnswer:
    """Bring its archived entries back into Redis; it takes entries again."""
    thread_id = await refs.thread(record, who, ref)
    count = await restore_thread.restore_thread(record, who, thread_id)
    row = await archiving.get(record, who, thread_id)
    return RestoreAnswer(thread=shapes.thread(row), entries=count)
