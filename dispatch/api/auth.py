"""Who calls: the bearer token, as a dependency of routes and as a call for the hot one."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dispatch.errors import Unauthenticated
from dispatch.models.houses import Caller
from dispatch.operations import authorize, rights
from dispatch.operations.record import Record

_bearer = HTTPBearer(
    auto_error=False, description="An API token, `arbe_owner_…` or `arbe_member_…`."
)
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def record_of(request: Request) -> Record:
    """Return the record this process holds open."""
    record: Record = request.app.state.record
    return record


async def caller_of(request: Request) -> Caller:
    """Return who the request's token speaks for.

    Raises: Unauthenticated.
    """
    return await authorize.caller(record_of(request), _token(request))


async def _caller(request: Request, _shown_in_openapi: _Credentials) -> Caller:
    return await caller_of(request)


async def _founder(request: Request, _shown_in_openapi: _Credentials) -> None:
    """Let the operator and owners of houses pass."""
    record = record_of(request)
    token = _token(request)
    operator = record.settings.operator_token.get_secret_value()
    if operator and hmac.compare_digest(token.encode(), operator.encode()):
        return
    rights.require_owner(await authorize.caller(record, token), "found another house")


Who = Annotated[Caller, Depends(_caller)]
Held = Annotated[Record, Depends(record_of)]
MayFound = Depends(_founder)


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return token.strip()
