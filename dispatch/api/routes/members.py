"""Members over HTTP."""

from http import HTTPStatus

from fastapi import APIRouter

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute, NewId
from dispatch.api.routes import Cursor, Id, Limit
from dispatch.api.shapes import houses as shapes
from dispatch.api.shapes.houses import AddMember, MemberAnswer, MembersAnswer
from dispatch.ids import MemberId
from dispatch.operations import members, refs

router = APIRouter(prefix="/members", tags=["members"], route_class=KeyedRoute)


@router.get("", summary="List the people of the house", responses=problems.responses())
async def list_members(
    who: Who, record: Held, limit: Limit = None, cursor: Cursor = None
) -> MembersAnswer:
    """Return one page, newest first."""
    page = await members.list_members(record, who, cursor=cursor, limit=limit)
    return MembersAnswer(
        members=[shapes.member(row) for row in page.items], next_cursor=page.next_cursor
    )


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Add a person",
    responses=problems.responses(HTTPStatus.FORBIDDEN),
)
async def add_member(body: AddMember, who: Who, record: Held, new: NewId) -> MemberAnswer:
    """Add a person to the house (owners only); then mint a token for them."""
    made = await members.create(record, who, name=body.name, role=body.role, new=new)
    return shapes.member(made)


@router.delete(
    "/{member_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove a person",
    responses=problems.responses(
        HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT
    ),
)
async def remove_member(member_id: Id, who: Who, record: Held) -> None:
    """Remove a person and all tokens of theirs (owners only); the last owner stays."""
    await members.delete(record, who, MemberId(refs.row_id("member", member_id)))
