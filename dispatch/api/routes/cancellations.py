"""Cancels over HTTP: one dispatch with what works for it, a thread, the whole house."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Response

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute, NewId
from dispatch.api.routes import Id, IfStatus, Ref, statuses
from dispatch.api.shapes import cancellations as shapes
from dispatch.api.shapes.cancellations import CancelHouse, CancellationAnswer, CancelThread
from dispatch.api.shapes.dispatches import CancelAnswer, CancelDispatch
from dispatch.ids import CancellationId, DispatchId
from dispatch.models.cancellations import Cancellation
from dispatch.operations import cancel_many, refs

router = APIRouter(tags=["cancellations"], route_class=KeyedRoute)
_DispatchRef = Annotated[str, Path(description="`<entry id>.<i>`, as the POST answered.")]
_REST: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": CancellationAnswer, "description": "It is written down and being done."}
}


@router.post(
    "/threads/cancel",
    summary="Cancel all work of the house",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.FORBIDDEN) | _REST,
)
async def cancel_house(
    who: Who,
    record: Held,
    new_id: NewId,
    response: Response,
    body: Annotated[CancelHouse | None, Body()] = None,
) -> CancellationAnswer:
    """End every turn that waits or runs now, in all threads or in those with a tag.

    An owner's right. What is posted after this call is not touched.
    """
    wanted = body or CancelHouse()
    asked = await cancel_many.cancel_house(
        record, who, message=wanted.message, tag=wanted.tag, reserved=new_id
    )
    return _answer(asked, response)


@router.post(
    "/threads/{ref}/cancel",
    summary="Cancel all work of a thread",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE)
    | _REST,
)
async def cancel_thread(
    ref: Ref,
    who: Who,
    record: Held,
    new_id: NewId,
    response: Response,
    body: Annotated[CancelThread | None, Body()] = None,
    if_status: IfStatus = None,
) -> CancellationAnswer:
    """End every turn that waits or runs now in this thread and in all below it.

    What is posted after this call is not touched.
    """
    wanted = body or CancelThread()
    thread_id = await refs.thread(record, who, ref)
    asked = await cancel_many.cancel_thread(
        record,
        who,
        thread_id,
        message=wanted.message,
        cascade=wanted.cascade,
        if_status=statuses(if_status, wanted.if_status),
        reserved=new_id,
    )
    return _answer(asked, response)


@router.post(
    "/threads/{ref}/dispatches/{dispatch_id}/cancel",
    summary="Cancel a dispatch and what works for it",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE)
    | {202: {"model": CancelAnswer, "description": "Its run was asked to end."}},
)
async def cancel_dispatch(
    ref: Ref,
    dispatch_id: _DispatchRef,
    who: Who,
    record: Held,
    new_id: NewId,
    response: Response,
    body: Annotated[CancelDispatch | None, Body()] = None,
    if_status: IfStatus = None,
) -> CancelAnswer:
    """End a waiting turn now; ask a running one to end (202), with a grace of seconds.

    Sub-jobs that were made for it (`parentDispatchId`) are cancelled with it, at any depth.
    """
    wanted = body or CancelDispatch()
    thread_id = await refs.thread(record, who, ref)
    done = await cancel_many.cancel_dispatch(
        record,
        who,
        thread_id,
        DispatchId(dispatch_id),
        message=wanted.message,
        cascade=wanted.cascade,
        if_status=statuses(if_status, wanted.if_status),
        reserved=new_id,
    )
    below = done.cancellation
    if done.status == "requested" or (below is not None and below.done_at is None):
        response.status_code = HTTPStatus.ACCEPTED
    return CancelAnswer.model_validate(
        {"status": done.status, "cancellation_id": None if below is None else str(below.id)},
        by_name=True,
    )


@router.get(
    "/cancellations/{cancellation_id}",
    summary="Read how far a cancel has come",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND),
)
async def get_cancellation(cancellation_id: Id, who: Who, record: Held) -> CancellationAnswer:
    """Return what was asked and what of it is done; kept for a week after its end."""
    wanted = CancellationId(refs.row_id("cancellation", cancellation_id))
    return shapes.cancellation(await cancel_many.get(record, who, wanted))


def _answer(asked: Cancellation, response: Response) -> CancellationAnswer:
    if asked.done_at is None:
        response.status_code = HTTPStatus.ACCEPTED
    return shapes.cancellation(asked)
