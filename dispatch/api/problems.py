"""Errors as RFC 9457 problems. The only place that knows which error has which HTTP status.

Promise: no answer tells what an unexpected error was about; the log does, under the request id.
"""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from dispatch.api import stream
from dispatch.errors import (
    ArbeError,
    Conflict,
    Fenced,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    SandboxDied,
    TooBusy,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MEDIA_TYPE: Final = "application/problem+json"
_STATUS: Final[dict[type[ArbeError], HTTPStatus]] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Gone: HTTPStatus.GONE,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    Conflict: HTTPStatus.CONFLICT,
    TooBusy: HTTPStatus.TOO_MANY_REQUESTS,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Fenced: HTTPStatus.CONFLICT,
    SandboxDied: HTTPStatus.CONFLICT,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    ArbeError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_EXAMPLES: Final[dict[HTTPStatus, ArbeError]] = {
    HTTPStatus.BAD_REQUEST: Invalid(
        "'zzz' is no offset.", next_step="Send `-1`, `now`, or an offset an answer gave."
    ),
    HTTPStatus.UNAUTHORIZED: Unauthenticated(),
    HTTPStatus.FORBIDDEN: Forbidden(
        "Only an owner of the house may add members.",
        next_step="Ask an owner, or use an owner's token.",
    ),
    HTTPStatus.NOT_FOUND: NotFound("thread", "0199"),
    HTTPStatus.CONFLICT: Conflict(
        "handle_taken",
        "Another agent of this house has this handle.",
        next_step="Choose another handle.",
    ),
    HTTPStatus.GONE: Gone("0199d2a4-5b7e-7c1d-8f00-3a5b6c7d8e9f"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge(
        "The request body", limit_bytes=1048576, setting="ARBE_MAX_BODY_BYTES"
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid(
        "body.text: Field required.", next_step="Correct the request; GET /docs shows its form."
    ),
    HTTPStatus.TOO_MANY_REQUESTS: TooBusy(
        "This agent has 100 entries waiting in this thread.", retry_after_seconds=5.0
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable("Redis", cause="ConnectionError"),
}
_STREAM_STATUS: Final[dict[type[ArbeError], HTTPStatus]] = {
    Invalid: HTTPStatus.BAD_REQUEST,
    TooBusy: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""What the Durable Streams protocol wants otherwise on its routes."""
_RETRY_AFTER_SECONDS: Final = 1
"""An absent server is usually back after a restart of a second or two."""
_SHOWN_FAULTS: Final = 5

SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "RFC 9457, with a stable `code` and what to do next.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "`urn:arbe:problem:<code>`"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, for people."},
        "code": {"type": "string", "description": "What happened, for programs."},
        "nextStep": {"type": "string", "description": "What to do about it."},
    },
    "required": ["type", "title", "status", "detail", "code", "nextStep"],
    "additionalProperties": True,
}


def response_of(error: ArbeError, *, on_stream: bool = False) -> Response:
    """Turn an error of ours into its problem."""
    status = status_of(error, on_stream=on_stream)
    headers = dict(stream.SECURITY_HEADERS) if on_stream else {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="arbe"'
    seconds = error.fields.get("retryAfterSeconds")
    if isinstance(seconds, int | float):
        headers["Retry-After"] = str(max(1, round(seconds)))
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return _respond(document_of(error, status), headers)


def status_of(error: ArbeError, *, on_stream: bool = False) -> HTTPStatus:
    """Return the status of the nearest kind the table knows."""
    table = _STATUS | _STREAM_STATUS if on_stream else _STATUS
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def document_of(error: ArbeError, status: HTTPStatus) -> dict[str, Any]:
    """Return the problem's JSON object; `None` fields stay out."""
    fields = {name: value for name, value in error.fields.items() if value is not None}
    return fields | _document(
        status, code=error.code, detail=error.what, next_step=error.next_step
    )


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Describe, for OpenAPI, the problems a route may answer with besides 401, 422 and 503."""
    always = (
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
    return {int(status): _described(status) for status in sorted({*always, *statuses})}


def install(app: FastAPI) -> None:
    """Let every error of the app end here."""
    app.add_exception_handler(ArbeError, _arbe_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)


async def _arbe_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ArbeError):
        raise error
    return response_of(error, on_stream=_is_stream(request))


def _is_stream(request: Request) -> bool:
    return request.url.path.endswith("/stream")


async def _validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = error.errors()
    is_json = "json" in request.headers.get("content-type", "application/json")
    next_step = "Correct the request; GET /docs shows its form."
    if request.method in {"POST", "PUT", "PATCH"} and not is_json:
        next_step = "Send JSON with `Content-Type: application/json`."
    detail = "; ".join(_fault(fault) for fault in faults[:_SHOWN_FAULTS])
    return response_of(Invalid(detail, next_step=next_step))


def _fault(fault: dict[str, Any]) -> str:
    if fault["type"] == "json_invalid":
        return f"The body is not valid JSON: {fault.get('ctx', {}).get('error', '')}."
    place = ".".join(str(part) for part in _shown(fault["loc"]))
    return f"{place}: {fault['msg']}."


def _shown(location: Sequence[Any]) -> list[Any]:
    """Keep what a reader can find again; a name the sender invented is shortened."""
    return [part[:80] if isinstance(part, str) else part for part in location]


async def _http_exception(request: Request, error: Exception) -> Response:
    """Translate what the framework itself refuses: no such route, wrong method, bad body."""
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    match status:
        case HTTPStatus.NOT_FOUND:
            code, detail = "no_such_route", f"There is nothing at {request.url.path[:200]}."
            next_step = "GET /docs lists what there is."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            code, detail = "method_not_allowed", f"{request.method} is not possible here."
            next_step = "The `Allow` header lists what is."
            headers["Allow"] = ", ".join(_allowed(request))
        case _:
            code, detail = "invalid", "The request cannot be read."
            next_step = "Correct the request; GET /docs shows its form."
    document = _document(status, code=code, detail=detail, next_step=next_step)
    if _is_stream(request):
        headers |= stream.SECURITY_HEADERS
    return _respond(document, headers)


def _allowed(request: Request) -> list[str]:
    """Collect what the path can do; the framework would name its first route's methods only."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    return sorted(
        method.upper()
        for template, methods in paths.items()
        if compile_path(template)[0].match(request.url.path)
        for method in methods
    )


async def _unexpected(request: Request, _error: Exception) -> Response:
    """Answer for a mistake of ours; the server around us logs it."""
    document = _document(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal",
        detail="Something broke on our side.",
        next_step="Repeat the call once; then report it with the requestId.",
    )
    request_id = request.scope.get("state", {}).get("request_id", "")
    return _respond(document | {"requestId": request_id}, {"X-Request-Id": request_id})


def _document(status: HTTPStatus, *, code: str, detail: str, next_step: str) -> dict[str, Any]:
    return {
        "type": f"urn:arbe:problem:{code}",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
        "nextStep": next_step or "Correct the request; GET /docs shows its form.",
    }


def _respond(document: dict[str, Any], headers: dict[str, str]) -> Response:
    # json, not msgspec: it escapes lone surrogates that a caller may have sent.
    return Response(
        json.dumps(document).encode(),
        status_code=document["status"],
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def _described(status: HTTPStatus) -> dict[str, Any]:
    return {
        "description": status.phrase,
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": document_of(_EXAMPLES[status], status),
            }
        },
    }
