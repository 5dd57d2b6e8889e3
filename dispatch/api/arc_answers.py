"""Answers of the ARC protocol as HTTP has them."""

from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from dispatch.arc import envelope, errors, sse
from dispatch.arc.envelope import Call
from dispatch.errors import TooLarge

PATH: Final = "/arc"
MEDIA_TYPE: Final = "application/arc+json"


def json(
    body: bytes, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """Return an envelope."""
    return Response(body, status, headers=headers, media_type=MEDIA_TYPE)


def refused(call: Call, error: dict[str, Any]) -> Response:
    """Return a refusal as the caller can hear it: a stream's client reads events only."""
    if not call.wants_stream:
        return json(envelope.refusal(call, error))
    chat_id = call.params.get("chatId")
    body = sse.refused(error, call, chat_id if isinstance(chat_id, str) else "")
    return Response(body, headers=sse.HEADERS)


def too_large(error: TooLarge) -> Response:
    """Return the refusal of a body that was not read to its end; so its `id` is not known."""
    call = Call()
    body = envelope.refusal(call, errors.of(error, call))
    return json(body, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
