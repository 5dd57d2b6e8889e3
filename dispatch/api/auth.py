"""Who calls: the bearer token, as a dependency of routes and as a call for the hot one."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dispatch.errors import Unauthenticated
from dispatch.models import claims
from dispatch.models.claims import Scope
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
    return await authorize.caller(record_of(request), token_of(request))


async def _caller(request: Request, _shown_in_openapi: _Credentials) -> Caller:
    return await caller_of(request)


async def scope_of(request: Request) -> Scope:
    """Return whose Idempotency-Keys the request's are: its member's, or the operator's.

    Raises: Unauthenticated.
    """
    if _is_operator(request):
        return Scope(member_id=claims.OPERATOR)
    who = await caller_of(request)
    return Scope(member_id=who.member_id, house_id=who.house_id)


async def _founder(request: Request, _shown_in_openapi: _Credentials) -> None:
    """Let the operator and owners of houses pass."""
    if not _is_operator(request):
        rights.require_owner(await caller_of(request), "found another house")


async def _operator(request: Request, _shown_in_openapi: _Credentials) -> None:
    """Let the operator and owners of houses pass."""
    if not _is_operator(request):
        rights.require_owner(await caller_of(request), "work on what all houses share")


Who = Annotated[Caller, Depends(_caller)]
Held = Annotated[Record, Depends(record_of)]
MayFound = Depends(_founder)
IsOperator = Depends(_operator)


def token_of(request: Request) -> str:
    """Return the text of the request's bearer token.

    Raises: Unauthenticated, without one.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return token.strip()


def _is_operator(request: Request) -> bool:
    operator = record_of(request).settings.operator_token.get_secret_value()
    given = token_of(request)
    return bool(operator) and hmac.compare_digest(given.encode(), operator.encode())
