"""API tokens over HTTP."""

from http import HTTPStatus

from fastapi import APIRouter, Response

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute, NewId
from dispatch.api.routes import Cursor, Id, Limit
from dispatch.api.shapes import houses as shapes
from dispatch.api.shapes.houses import MintedAnswer, MintToken, TokensAnswer
from dispatch.ids import MemberId, TokenId
from dispatch.operations import refs, tokens

router = APIRouter(prefix="/tokens", tags=["tokens"], route_class=KeyedRoute)


@router.get(
    "",
    summary="List tokens",
    response_model_exclude_none=True,
    responses=problems.responses(),
)
async def list_tokens(
    who: Who, record: Held, limit: Limit = None, cursor: Cursor = None
) -> TokensAnswer:
    """Return one page of one's own tokens, or for an owner the house's; never their text."""
    page = await tokens.list_tokens(record, who, cursor=cursor, limit=limit)
    return TokensAnswer(
        tokens=[shapes.token(row) for row in page.items], next_cursor=page.next_cursor
    )


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Mint a token",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN),
)
async def mint_token(
    body: MintToken, who: Who, record: Held, new: NewId, response: Response
) -> MintedAnswer:
    """Mint a token for oneself, or as an owner for another member; its text comes only now."""
    member_id = None
    if body.member_id is not None:
        member_id = MemberId(refs.row_id("member", body.member_id))
    made = await tokens.mint(
        record,
        who,
        name=body.name,
        member_id=member_id,
        expires_in_seconds=body.expires_in_seconds,
        new=new,
    )
    response.headers["Cache-Control"] = "no-store"
    return shapes.minted(made.token, made.secret)


@router.delete(
    "/{token_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Revoke a token",
    responses=problems.responses(HTTPStatus.NOT_FOUND),
)
async def revoke_token(token_id: Id, who: Who, record: Held) -> None:
    """End a token; other processes hear of it within seconds."""
    await tokens.revoke(record, who, TokenId(refs.row_id("token", token_id)))
