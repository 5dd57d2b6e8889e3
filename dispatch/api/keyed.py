"""Routes that may be called twice: every mutating one takes an `Idempotency-Key`.

`KeyedRoute` is the class of all our routers' routes, so no new route can forget the key;
without the header a call runs as it always did. The two routes that post entries do not pass
here: their keys stand on the thread's stream.
"""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from dispatch.api import auth, problems
from dispatch.api.routes import IdempotencyKey, entry_key
from dispatch.errors import ArbeError, Gone, NotFound
from dispatch.models import claims
from dispatch.operations import idempotency
from dispatch.operations.idempotency import Answer, Call

_MUTATING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REPLAYED: Final = (b"idempotency-replayed", b"true")
_Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class KeyedRoute(APIRoute):
    """FastAPI's route, which runs a mutating call at most once per Idempotency-Key."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if _MUTATING.intersection(options.get("methods") or ()):
            shown = [*(options.get("dependencies") or ()), Depends(_shown_in_openapi)]
            refusal = problems.responses(HTTPStatus.CONFLICT)[HTTPStatus.CONFLICT]
            responses: dict[int | str, Any] = {int(HTTPStatus.CONFLICT): refusal}
            responses |= options.get("responses") or {}
            options |= {"dependencies": shown, "responses": responses}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> _Handle:
        """Return what FastAPI would call, behind the key if there is one."""
        handle = super().get_route_handler()
        if not _MUTATING.intersection(self.methods or ()):
            return handle

        async def once(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            return await (handle(request) if key is None else _once(request, key, handle))

        return once


async def _once(request: Request, given: str, handle: _Handle) -> Response:
    """Run the call, or answer what it was answered.

    Promise: nobody hears a success that a repeat would not hear too; refusals are not kept. A
    process that dies here, or breaks by a mistake of ours, leaves a claim that its time ends.
    """
    record = auth.record_of(request)
    call = await _call(request, entry_key(given))
    begun = await idempotency.begin(record, call)
    if isinstance(begun, Answer):
        return _replayed(begun)
    request.state.new_id = claims.reserved(begun)
    try:
        response = await handle(request)
    except (ArbeError, RequestValidationError, HTTPException) as error:
        if not (begun.is_repeat and _is_done(request, error)):
            nothing_done = not begun.is_repeat and _nothing_done(error)
            await idempotency.refuse(record, begun, nothing_done=nothing_done)
            raise
        response = Response(status_code=HTTPStatus.NO_CONTENT)
    answer = Answer(response.status_code, response.raw_headers, bytes(response.body))
    await idempotency.keep(record, call, begun, answer)
    return response


async def _call(request: Request, key: str) -> Call:
    scope = request.scope
    path = scope.get("raw_path") or scope["path"].encode()
    return Call(
        scope=await auth.scope_of(request),
        token=auth.token_of(request),
        key=key,
        request=(
            request.method.encode(),
            path,
            scope.get("query_string", b""),
            await request.body(),
        ),
    )


def _is_done(request: Request, error: Exception) -> bool:
    """Tell whether the call removes what is not there: its first attempt did, then died."""
    return request.method == "DELETE" and isinstance(error, NotFound | Gone)


def _nothing_done(error: Exception) -> bool:
    """Tell a refusal of ours from a server that was away in the middle of this attempt."""
    if isinstance(error, ArbeError):
        return problems.status_of(error) < HTTPStatus.INTERNAL_SERVER_ERROR
    return True


def _replayed(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = [*answer.headers, _REPLAYED]
    return response


def _shown_in_openapi(idempotency_key: IdempotencyKey = None) -> None:
    """Let the header stand in the document; `_once` reads it before any route does."""


def _new_id(request: Request) -> claims.NewId:
    reserved: claims.NewId | None = getattr(request.state, "new_id", None)
    return reserved or claims.fresh()


NewId = Annotated[claims.NewId, Depends(_new_id)]
"""The id of the row that this call makes: all attempts under one key make one row."""
