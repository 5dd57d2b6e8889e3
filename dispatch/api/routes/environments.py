"""Environments over HTTP."""

from http import HTTPStatus

from fastapi import APIRouter

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute, NewId
from dispatch.api.routes import Cursor, Limit, Ref
from dispatch.api.shapes import agents as shapes
from dispatch.api.shapes.agents import (
    AddEnvironment,
    EnvironmentAnswer,
    EnvironmentsAnswer,
)
from dispatch.operations import environments, refs

router = APIRouter(prefix="/environments", tags=["environments"], route_class=KeyedRoute)


@router.get("", summary="List environments", responses=problems.responses())
async def list_environments(
    who: Who, record: Held, limit: Limit = None, cursor: Cursor = None
) -> EnvironmentsAnswer:
    """Return one page, newest first."""
    page = await environments.list_environments(record, who, cursor=cursor, limit=limit)
    return EnvironmentsAnswer(
        environments=[shapes.environment(row) for row in page.items],
        next_cursor=page.next_cursor,
    )


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Add an environment",
    responses=problems.responses(),
)
async def add_environment(
    body: AddEnvironment, who: Who, record: Held, new: NewId
) -> EnvironmentAnswer:
    """Add a recipe; nothing starts before a turn needs a sandbox of it."""
    made = await environments.create(
        record, who, name=body.name, provider=body.provider, config=body.config, new=new
    )
    return shapes.environment(made)


@router.get(
    "/{ref}",
    summary="Read an environment",
    responses=problems.responses(HTTPStatus.NOT_FOUND),
)
async def get_environment(ref: Ref, who: Who, record: Held) -> EnvironmentAnswer:
    """Return a recipe by its id."""
    environment_id = await refs.environment(record, who, ref)
    return shapes.environment(await environments.get(record, who, environment_id))


@router.delete(
    "/{ref}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove an environment",
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
async def remove_environment(ref: Ref, who: Who, record: Held) -> None:
    """Remove a recipe no thread is bound to."""
    await environments.delete(record, who, await refs.environment(record, who, ref))
