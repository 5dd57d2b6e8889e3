"""ARC's chats over our own HTTP: look and sweep. To speak in one, speak ARC."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body

from dispatch.api import problems
from dispatch.api.auth import Held, IsOperator, Who
from dispatch.api.keyed import KeyedRoute
from dispatch.api.routes import Cursor, Limit
from dispatch.api.shapes import chats as shapes
from dispatch.api.shapes.chats import ChatsAnswer, SweepChats, SweptChatsAnswer
from dispatch.operations import chats

router = APIRouter(prefix="/chats", tags=["chats"], route_class=KeyedRoute)


@router.get("", summary="List one's active chats", responses=problems.responses())
async def list_chats(
    who: Who, record: Held, limit: Limit = None, cursor: Cursor = None
) -> ChatsAnswer:
    """Return one page by id: the caller's own, and no other member's."""
    page = await chats.list_active(record, who, cursor=cursor, limit=limit)
    return ChatsAnswer(
        chats=[shapes.chat(each) for each in page.items], next_cursor=page.next_cursor
    )


@router.post(
    "/sweep",
    summary="Remove closed chats whose time is over",
    dependencies=[IsOperator],
    responses=problems.responses(HTTPStatus.FORBIDDEN),
)
async def sweep_chats(
    record: Held, body: Annotated[SweepChats | None, Body()] = None
) -> SweptChatsAnswer:
    """Do at once what the sweep does each minute, for all houses; a dry run only counts.

    Needs the operator's token (ARBE_OPERATOR_TOKEN) or an owner's.
    """
    dry_run = (body or SweepChats()).dry_run
    counts = await chats.sweep(record.chats.storage, record.settings, dry_run=dry_run)
    return SweptChatsAnswer(expired=counts["expired"], dry_run=dry_run)
