"""Posting and reading entries over HTTP.

Posting is the hot path: bytes in, msgspec, one script, bytes out, no dependency solving and no
pydantic. `openapi.py` describes both POST routes from the shapes; tests hold them together.
"""

from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Body, Path, Query, Request
from starlette.responses import Response
from starlette.routing import Route

from dispatch import ids
from dispatch.api import auth, problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute
from dispatch.api.routes import Limit, Ref, entry_key
from dispatch.api.shapes import entries as shapes
from dispatch.api.shapes.entries import EntriesAnswer, WithdrawEntry, WithdrawnAnswer
from dispatch.errors import Invalid
from dispatch.ids import EntryId, ThreadId
from dispatch.operations import list_entries as reading
from dispatch.operations import post_entry as posting
from dispatch.operations import post_to_agent as posting_to_agent
from dispatch.operations import refs
from dispatch.operations import withdraw as withdrawing
from dispatch.operations.post_entry import Draft
from dispatch.streams.threads import Accepted

router = APIRouter(prefix="/threads", tags=["entries"], route_class=KeyedRoute)
_drafts: Final = msgspec.json.Decoder(Draft)
_encoder: Final = msgspec.json.Encoder()


async def post_entry(request: Request) -> Response:
    """Say something in a thread; the agents it concerns are dispatched.

    Answers 201, or 200 with `duplicate` when this Idempotency-Key had posted it before.
    """
    record = auth.record_of(request)
    who = await auth.caller_of(request)
    key = entry_key(request.headers.get("idempotency-key"))
    draft = _decode(await request.body())
    thread_id = await refs.thread(record, who, request.path_params["ref"])
    accepted = await posting.post_entry(record, who, thread_id, draft, key=key)
    return _answer(thread_id, accepted)


async def post_to_agent(request: Request) -> Response:
    """Talk to an agent: its direct thread is found or made, and the entry posted there."""
    record = auth.record_of(request)
    who = await auth.caller_of(request)
    key = entry_key(request.headers.get("idempotency-key"))
    draft = _decode(await request.body())
    agent_id = await refs.agent(record, who, request.path_params["ref"])
    posted = await posting_to_agent.post_to_agent(record, who, agent_id, draft, key=key)
    return _answer(posted.thread_id, posted.accepted)


HOT: Final = (
    Route("/v1/threads/{ref}/entries", post_entry, methods=["POST"]),
    Route("/v1/agents/{ref}/entries", post_to_agent, methods=["POST"]),
)
"""Matched before all other routes."""


@router.get(
    "/{ref}/entries",
    summary="List entries",
    response_model=EntriesAnswer,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def list_entries(
    ref: Ref,
    who: Who,
    record: Held,
    after: Annotated[
        str | None, Query(description="An entry's id: what follows it. Unset: from the start.")
    ] = None,
    before: Annotated[
        str | None,
        Query(description="An entry's id, or `end`: the last entries before it."),
    ] = None,
    limit: Limit = None,
) -> Response:
    """Return a page of entries in the stream's order; `nextCursor` goes on the same way."""
    thread_id = await refs.thread(record, who, ref)
    page = await reading.list_entries(
        record, who, thread_id, after=after, before=before, limit=limit
    )
    cursor = _encoder.encode(page.next_cursor)
    entries = b",".join(entry.wire() for entry in page.items)
    return Response(
        b'{"entries":[%s],"nextCursor":%s}' % (entries, cursor), media_type="application/json"
    )


@router.post(
    "/{ref}/entries/{entry_id}/withdraw",
    summary="Withdraw an entry whose turns have not started",
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE),
)
async def withdraw_entry(
    ref: Ref,
    entry_id: Annotated[str, Path(description="The entry's id, as the POST answered.")],
    who: Who,
    record: Held,
    body: Annotated[WithdrawEntry | None, Body()] = None,
) -> WithdrawnAnswer:
    """End what waits because of it; the entry stays to be read. A repeat answers the same.

    409 (`already_delivered`) when each of its turns had started or ended.
    """
    thread_id = await refs.thread(record, who, ref)
    done = await withdrawing.withdraw(
        record,
        who,
        thread_id,
        EntryId(entry_id),
        message=body.message if body else None,
    )
    return shapes.withdrawn(entry_id, done)


def _decode(body: bytes) -> Draft:
    try:
        return _drafts.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"{error}.", next_step='Send `{"text": "…"}`; GET /docs shows the form.'
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            f"The body is not valid JSON: {error}.", next_step='Send `{"text": "…"}`.'
        ) from error


class _Place(msgspec.Struct):
    id: str
    at: int


class _DispatchRef(msgspec.Struct, rename="camel"):
    id: str
    agent_id: str


class _Muted(msgspec.Struct, rename="camel"):
    agent_id: str
    handle: str


class _Answer(msgspec.Struct, rename="camel", omit_defaults=True):
    entry: _Place
    thread_id: str
    dispatches: list[_DispatchRef]
    duplicate: bool = False
    muted: list[_Muted] = []


def _answer(thread_id: ThreadId, accepted: Accepted) -> Response:
    answer = _Answer(
        entry=_Place(accepted.entry_id, ids.milliseconds_of(accepted.entry_id)),
        thread_id=str(thread_id),
        dispatches=[
            _DispatchRef(dispatch_id, str(agent_id))
            for dispatch_id, agent_id in accepted.dispatches
        ],
        duplicate=accepted.duplicate,
        muted=[_Muted(str(agent_id), handle) for agent_id, handle in accepted.muted],
    )
    status = HTTPStatus.OK if accepted.duplicate else HTTPStatus.CREATED
    return Response(_encoder.encode(answer), status, media_type="application/json")
