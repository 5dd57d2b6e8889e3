"""Agents over HTTP."""

from http import HTTPStatus

import msgspec
from fastapi import APIRouter

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute, NewId
from dispatch.api.routes import Cursor, Limit, Ref
from dispatch.api.shapes import agents as shapes
from dispatch.api.shapes.agents import AddAgent, AgentAnswer, AgentsAnswer, ChangeAgent
from dispatch.operations import agents, refs
from dispatch.operations.agents import AgentChange

router = APIRouter(prefix="/agents", tags=["agents"], route_class=KeyedRoute)


@router.get(
    "",
    summary="List the bots of the house",
    response_model_exclude_none=True,
    responses=problems.responses(),
)
async def list_agents(
    who: Who, record: Held, limit: Limit = None, cursor: Cursor = None
) -> AgentsAnswer:
    """Return one page, newest first."""
    page = await agents.list_agents(record, who, cursor=cursor, limit=limit)
    return AgentsAnswer(
        agents=[shapes.agent(row) for row in page.items], next_cursor=page.next_cursor
    )


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Add a bot",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.CONFLICT),
)
async def add_agent(body: AddAgent, who: Who, record: Held, new: NewId) -> AgentAnswer:
    """Add a bot; the house's primary thread tells (`signal.house.agent_created`)."""
    made = await agents.create(
        record,
        who,
        handle=body.handle,
        runner=body.runner,
        model=body.model,
        config=body.config,
        trigger_mode=body.trigger_mode,
        new=new,
    )
    return shapes.agent(made)


@router.get(
    "/{ref}",
    summary="Read a bot",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND),
)
async def get_agent(ref: Ref, who: Who, record: Held) -> AgentAnswer:
    """Return a bot by its handle or its id."""
    agent_id = await refs.agent(record, who, ref)
    return shapes.agent(await agents.get(record, who, agent_id))


@router.patch(
    "/{ref}",
    summary="Change a bot",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
async def change_agent(ref: Ref, body: ChangeAgent, who: Who, record: Held) -> AgentAnswer:
    """Change what is given; turns already dispatched run as they were born."""
    agent_id = await refs.agent(record, who, ref)
    given = {name: getattr(body, name) for name in body.model_fields_set}
    change = msgspec.convert(given, AgentChange)
    return shapes.agent(await agents.update(record, who, agent_id, change))


@router.delete(
    "/{ref}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove a bot",
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
async def remove_agent(ref: Ref, who: Who, record: Held) -> None:
    """Remove a bot that has no direct threads left."""
    await agents.delete(record, who, await refs.agent(record, who, ref))
