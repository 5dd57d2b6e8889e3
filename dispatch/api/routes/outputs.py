"""Whole outputs of commands over HTTP."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.responses import StreamingResponse

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.routes import Ref
from dispatch.operations import outputs, refs

router = APIRouter(prefix="/threads", tags=["threads"])
_CONTENT: Final = {
    "text/plain": {"schema": {"type": "string"}, "example": "Collecting 214 items …\n"}
}
OutputRef = Annotated[
    str, Path(description="As a tool result's `details.output.ref` says.", max_length=80)
]


@router.get(
    "/{ref}/outputs/{output_ref}",
    summary="Read the whole output of a command",
    response_class=StreamingResponse,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
    | {200: {"content": _CONTENT, "description": "The bytes as they were written."}},
)
async def get_output(
    ref: Ref, output_ref: OutputRef, who: Who, record: Held
) -> StreamingResponse:
    """Return the bytes of an output that was too long for its tool result."""
    thread_id = await refs.thread(record, who, ref)
    return StreamingResponse(
        await outputs.read(record, who, thread_id, output_ref),
        media_type="text/plain; charset=utf-8",
        # What a command wrote is not the API's own word: no browser may take it for a page.
        headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"},
    )
