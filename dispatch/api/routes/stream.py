"""Following a thread's stream over HTTP: the read side of the Durable Streams protocol."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from dispatch.api import problems, stream
from dispatch.api.auth import Held, Who
from dispatch.api.routes import Ref
from dispatch.api.shapes import examples
from dispatch.models.houses import Caller
from dispatch.operations import authorize, refs
from dispatch.operations.record import Record

router = APIRouter(prefix="/threads", tags=["stream"])
_HEADERS: Final[dict[str, Any]] = {
    "Stream-Next-Offset": {
        "description": "Where to go on.",
        "schema": {"type": "string", "example": examples.ENTRY_ID},
    }
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Entries in order, as a JSON array or as server-sent events.",
        "headers": _HEADERS,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/EntryAnswer"},
                },
                "example": [examples.ENTRY],
            },
            "text/event-stream": {"schema": {"type": "string"}, "example": "event: data\n…"},
        },
    },
    204: {"description": "Long-poll: nothing new in time.", "headers": _HEADERS},
}
_HEAD_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The stream is there.", "headers": _HEADERS}
}


@router.get(
    "/{ref}/stream",
    summary="Read or follow a thread's stream",
    response_class=Response,
    responses=_RESPONSES
    | problems.responses(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def follow_stream(
    ref: Ref,
    who: Who,
    record: Held,
    request: Request,
    _offset: Annotated[
        str | None,
        Query(alias="offset", description="`-1` the beginning, `now` the end, or a place."),
    ] = None,
    _tail: Annotated[
        str | None, Query(alias="tail", description="From the last so many entries on.")
    ] = None,
    _live: Annotated[
        str | None,
        Query(
            alias="live",
            description="`long-poll`: wait for more; `sse`: stay. Unset: catch up and end.",
        ),
    ] = None,
    _last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="Where an SSE follower was.")
    ] = None,
) -> Response:
    """Catch up, wait for the next entries, or follow them as they come."""
    return await _serve(ref, who, record, request)


@router.head(
    "/{ref}/stream",
    summary="Ask where a thread's stream ends",
    response_class=Response,
    responses=_HEAD_RESPONSES | problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def head_stream(ref: Ref, who: Who, record: Held, request: Request) -> Response:
    """Answer with headers only."""
    return await _serve(ref, who, record, request)


async def _serve(ref: str, who: Caller, record: Record, request: Request) -> Response:
    thread_id = await refs.thread(record, who, ref)
    await authorize.thread(record, who, thread_id)

    async def still_allowed() -> bool:
        return await record.visible.sees(who.member_id, thread_id)

    return await stream.serve(
        request,
        thread_id=thread_id,
        feed=record.feed,
        whole=record.entries,
        settings=record.settings,
        still_allowed=still_allowed,
        rhythm=who.member_id.int,
    )
