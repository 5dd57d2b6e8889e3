"""`POST /arc`: the ARC protocol over HTTP, and what its clients look for before they call.

Statuses: 200 also for refusals, since arc-sdk's client reads a code from a 200 only; 401 for a
token that is none. A request's Content-Type says nothing here: that client sends
`text/event-stream` on JSON.
"""

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from dispatch import log
from dispatch.api import arc_answers, auth
from dispatch.api.arc_events import ChatStream
from dispatch.api.routes import entry_key
from dispatch.api.shapes import arc as shapes
from dispatch.arc import discovery, envelope, errors, methods
from dispatch.arc.envelope import Call
from dispatch.arc.methods import Asked
from dispatch.errors import ArbeError, Unauthenticated
from dispatch.models.houses import Agent, Caller
from dispatch.operations import agents

CARD_PATH: Final = "/.well-known/a2a-agent-card.json"

router = APIRouter(tags=["arc"])
_log = log.get(__name__)


@router.post(
    arc_answers.PATH,
    summary="Call a method of the ARC protocol",
    response_class=Response,
    responses=shapes.ANSWERS,
    openapi_extra=shapes.CALL,
)
async def call_method(request: Request) -> Response:
    """Talk to an agent in the ARC protocol 1.0: `chat.*` and `task.*`; see `docs/arc.md`.

    Answers 200 with `result` or `error`; with `params.stream` in `chat.start` and
    `chat.message`, server-sent events.
    """
    call = envelope.read(await request.body())
    try:
        who = await auth.caller_of(request)
    except Unauthenticated as error:
        body = envelope.refusal(call, errors.of(error, call))
        return arc_answers.json(
            body, HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Bearer realm="arbe"'}
        )
    except ArbeError as error:
        return arc_answers.refused(call, errors.of(error, call))
    try:
        return await _serve(request, who, call)
    except ArbeError as error:
        return arc_answers.refused(call, errors.of(error, call))
    except Exception:  # noqa: BLE001 - the protocol has an answer for our mistakes too
        request_id: str = request.scope.get("state", {}).get("request_id", "")
        _log.exception("arc.failed", method=call.method[:40], request_id=request_id)
        return arc_answers.refused(call, errors.unexpected(call, request_id))


@router.get(
    "/agent-info", summary="Who can be called here", responses=shapes.document(shapes.INFO)
)
async def agent_info(request: Request) -> Response:
    """Tell what this server is; to a caller with a token also which agents of theirs it has."""
    found: list[Agent] = []
    if "authorization" in request.headers:
        record, who = auth.record_of(request), await auth.caller_of(request)
        page = await agents.list_agents(
            record, who, cursor=None, limit=record.settings.max_page_size
        )
        found = list(page.items)
    return JSONResponse(discovery.info(found))


@router.get(
    CARD_PATH, summary="This server's agent card", responses=shapes.document(shapes.CARD)
)
@router.get(f"{arc_answers.PATH}{CARD_PATH}", include_in_schema=False)
async def agent_card(request: Request) -> Response:
    """Describe this server as ARC's agent cards do."""
    return JSONResponse(discovery.card(auth.record_of(request).settings))


async def _serve(request: Request, who: Caller, call: Call) -> Response:
    if call.fault is not None:
        raise call.fault
    given = request.headers.get("idempotency-key")
    record = auth.record_of(request)
    key = None if given is None else entry_key(given)
    asked = Asked(record=record, who=who, call=call, key=key)
    if call.wants_stream:
        return ChatStream(record, await methods.begin(asked), call)
    return arc_answers.json(envelope.result(call, await methods.call(asked)))
