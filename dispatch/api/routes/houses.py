"""Houses over HTTP."""

from http import HTTPStatus

from fastapi import APIRouter

from dispatch.api import problems
from dispatch.api.auth import Held, MayFound, Who
from dispatch.api.keyed import KeyedRoute, NewId
from dispatch.api.routes import Ref
from dispatch.api.shapes import houses as shapes
from dispatch.api.shapes.houses import (
    ChangeHouse,
    FoundedAnswer,
    FoundHouse,
    HouseAnswer,
    HousesAnswer,
)
from dispatch.operations import houses
from dispatch.operations.houses import HouseChange

router = APIRouter(prefix="/houses", tags=["houses"], route_class=KeyedRoute)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Found a house",
    response_model_exclude_none=True,
    dependencies=[MayFound],
    responses=problems.responses(HTTPStatus.FORBIDDEN),
)
async def found_house(body: FoundHouse, record: Held, new: NewId) -> FoundedAnswer:
    """Make a house with its primary thread, its owner and the owner's first token.

    Needs the operator's token (ARBE_OPERATOR_TOKEN) or an owner's.
    """
    made = await houses.create(record, name=body.name, owner_name=body.owner_name, new=new)
    return FoundedAnswer(
        house=shapes.house(made.house), member=shapes.member(made.member), token=made.secret
    )


@router.get(
    "",
    summary="List one's houses",
    response_model_exclude_none=True,
    responses=problems.responses(),
)
async def list_houses(who: Who, record: Held) -> HousesAnswer:
    """Return the one house the token belongs to."""
    return HousesAnswer(houses=[shapes.house(await houses.get(record, who))])


@router.get(
    "/{ref}",
    summary="Read a house",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND),
)
async def get_house(ref: Ref, who: Who, record: Held) -> HouseAnswer:
    """Return the caller's house; `me` names it too."""
    return shapes.house(await houses.get(record, who, ref))


@router.patch(
    "/{ref}",
    summary="Change a house",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN),
)
async def change_house(ref: Ref, body: ChangeHouse, who: Who, record: Held) -> HouseAnswer:
    """Change what is given; its primary thread tells of another name."""
    change = HouseChange(**{name: getattr(body, name) for name in body.model_fields_set})
    return shapes.house(await houses.update(record, who, change, ref))
