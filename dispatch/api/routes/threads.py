"""Threads over HTTP."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute, NewId
from dispatch.api.routes import IdempotencyKey, IfStatus, Ref, entry_key, statuses
from dispatch.api.shapes import agents as agent_shapes
from dispatch.api.shapes import entries as entry_shapes
from dispatch.api.shapes import threads as shapes
from dispatch.api.shapes.agents import (
    SetTriggerMode,
    ThreadAgentsAnswer,
    TriggerModeAnswer,
)
from dispatch.api.shapes.entries import CreatedThreadAnswer
from dispatch.api.shapes.threads import (
    ChangeThread,
    CreateThread,
    ListThreads,
    ThreadAnswer,
    ThreadsAnswer,
)
from dispatch.models.threads import ThreadFilter
from dispatch.operations import create_thread, delete_thread, refs, thread_stats, threads
from dispatch.operations.create_thread import ThreadDraft
from dispatch.operations.threads import ThreadChange

router = APIRouter(prefix="/threads", tags=["threads"], route_class=KeyedRoute)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Create a thread, or get the one with a key",
    response_model_exclude_none=True,
    responses=problems.responses(
        HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS
    )
    | {200: {"model": CreatedThreadAnswer, "description": "The key's thread was there."}},
)
async def post_thread(
    body: CreateThread,
    who: Who,
    record: Held,
    new_id: NewId,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> CreatedThreadAnswer:
    """Make a conversation. Nothing is dispatched but by `message`, its first entry."""
    draft = ThreadDraft(**body.model_dump(by_alias=False))
    made = await create_thread.create_thread(
        record, who, draft, entry_key=entry_key(idempotency_key), new_id=new_id
    )
    if not made.created:
        response.status_code = HTTPStatus.OK
    accepted = made.accepted
    return CreatedThreadAnswer(
        thread=shapes.thread(made.thread),
        entry=entry_shapes.place(accepted) if accepted else None,
        dispatches=entry_shapes.dispatches(accepted) if accepted else None,
        muted=entry_shapes.muted(accepted) if accepted else None,
    )


@router.get(
    "",
    summary="List threads",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND),
)
async def list_threads(
    who: Who, record: Held, query: Annotated[ListThreads, Query()]
) -> ThreadsAnswer:
    """Return one page of the house's threads, newest first; filters are joined by "and"."""
    parent = query.parent
    where = ThreadFilter(
        status=query.status,
        tag=query.tag,
        parent=None if parent is None else await refs.parent(record, who, parent),
        pinned=query.pinned,
        name=query.q,
        key_prefix=query.key_prefix,
    )
    page = await threads.list_threads(
        record, who, where, cursor=query.cursor, limit=query.limit
    )
    return ThreadsAnswer(
        threads=[shapes.thread(row) for row in page.items], next_cursor=page.next_cursor
    )


@router.get(
    "/{ref}",
    summary="Read a thread, repairing it",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def get_thread(ref: Ref, who: Who, record: Held) -> ThreadAnswer:
    """Return the row, brought up to its stream; a run that went silent for good is ended."""
    thread_id = await refs.thread(record, who, ref)
    found = await thread_stats.view(record, who, thread_id)
    return shapes.thread(found.row, found.state)


@router.patch(
    "/{ref}",
    summary="Name, pin, tag or annotate a thread, or set its end",
    response_model_exclude_none=True,
    responses=problems.responses(
        HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    ),
)
async def change_thread(
    ref: Ref, body: ChangeThread, who: Who, record: Held, if_status: IfStatus = None
) -> ThreadAnswer:
    """Change what is given; its stream tells of another name (`signal.thread.renamed`)."""
    guard = statuses(if_status, body.if_status)
    thread_id = await refs.thread(record, who, ref)
    given = body.model_fields_set - {"if_status"}
    change = ThreadChange(**{name: getattr(body, name) for name in given})
    return shapes.thread(await threads.update(record, who, thread_id, change, if_status=guard))


@router.delete(
    "/{ref}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a thread with its stream and all below it",
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
async def remove_thread(ref: Ref, who: Who, record: Held, if_status: IfStatus = None) -> None:
    """Delete for good, a running one too; a repeat converges. The primary thread stays."""
    thread_id = await refs.thread_even_deleted(record, who, ref)
    await delete_thread.delete_thread(record, who, thread_id, if_status=if_status or ())


@router.get(
    "/{ref}/agents",
    summary="List the agents a thread may wake, and when",
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def list_thread_agents(ref: Ref, who: Who, record: Held) -> ThreadAgentsAnswer:
    """Return every agent of the house with the trigger mode that holds in this thread."""
    thread_id = await refs.thread(record, who, ref)
    found = await threads.list_agents(record, who, thread_id)
    return agent_shapes.thread_agents(found)


@router.delete(
    "/{ref}/agents/{agent_ref}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Let the house's trigger mode hold again",
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def reset_trigger_mode(ref: Ref, agent_ref: Ref, who: Who, record: Held) -> None:
    """Take this thread's override away; repeating changes nothing."""
    thread_id = await refs.thread(record, who, ref)
    agent_id = await refs.agent(record, who, agent_ref)
    await threads.reset_trigger_mode(record, who, thread_id, agent_id)


@router.put(
    "/{ref}/agents/{agent_ref}",
    summary="Say when this thread wakes an agent",
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def set_trigger_mode(
    ref: Ref, agent_ref: Ref, body: SetTriggerMode, who: Who, record: Held
) -> TriggerModeAnswer:
    """Override the agent's trigger mode for this one thread."""
    thread_id = await refs.thread(record, who, ref)
    agent_id = await refs.agent(record, who, agent_ref)
    await threads.set_trigger_mode(record, who, thread_id, agent_id, body.trigger_mode)
    return TriggerModeAnswer(
        thread_id=str(thread_id), agent_id=str(agent_id), trigger_mode=body.trigger_mode
    )
