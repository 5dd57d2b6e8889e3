"""What turns ask people, over HTTP: see the open questions, answer them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute
from dispatch.api.routes import Ref
from dispatch.api.shapes import permissions as shapes
from dispatch.api.shapes.permissions import (
    AnswerPermission,
    PermissionAnswer,
    PermissionsAnswer,
)
from dispatch.operations import permissions, refs
from dispatch.operations.permissions import Permission, Reply

router = APIRouter(tags=["permissions"], route_class=KeyedRoute)


@router.get(
    "/permissions",
    summary="List what turns of the house ask",
    response_model_exclude_none=True,
    responses=problems.responses(),
)
async def list_house_permissions(who: Who, record: Held) -> PermissionsAnswer:
    """Return the open questions of the threads that run; of 500 threads at most."""
    found = await permissions.list_in_house(record, who)
    return PermissionsAnswer(permissions=[shapes.permission(each) for each in found])


@router.get(
    "/threads/{ref}/permissions",
    summary="List what turns of a thread ask",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def list_permissions(ref: Ref, who: Who, record: Held) -> PermissionsAnswer:
    """Return the thread's questions that nobody has answered, the oldest first."""
    thread_id = await refs.thread(record, who, ref)
    found = await permissions.list_open(record, who, thread_id)
    return PermissionsAnswer(permissions=[shapes.permission(each) for each in found])


@router.post(
    "/threads/{ref}/permissions/{permission_id}",
    summary="Answer what a turn asks",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE),
)
async def answer_permission(
    ref: Ref,
    permission_id: Annotated[str, Path(description="The question's id, as the list has it.")],
    body: AnswerPermission,
    who: Who,
    record: Held,
) -> PermissionAnswer:
    """Grant or deny; the turn goes on with it. The same answer again is answered alike.

    409: `already_answered` otherwise, or `turn_ended` before it was.
    """
    thread_id = await refs.thread(record, who, ref)
    reply = Reply(**body.model_dump(by_alias=False))
    question = await permissions.answer(record, who, thread_id, permission_id, reply)
    return shapes.permission(Permission(thread_id=thread_id, question=question))
