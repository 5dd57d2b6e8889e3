"""What every request passes first: a request id, and a limit of its body counted while reading.

The whole body is read here (bodies are small, and JSON needs all of it anyway), so a refusal
never leaves a half-read request to a route. Plain ASGI: it costs microseconds on the hot path.
"""

import os
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatch.api import arc_answers, problems
from dispatch.errors import TooLarge

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REQUEST_ID: Final = re.compile(rb"[0-9A-Za-z._-]{1,64}\Z")
_DRAINED: Final = 8
"""Times the limit that is read and thrown away, so that an honest client hears the refusal."""


class Bounded:
    """The outermost of our layers."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a body beyond the limit; pass everything else on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        if scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send_with_id)
            return
        body = await self._read(receive)
        if body is None:
            error = TooLarge(
                "The request body",
                limit_bytes=self._max_body_bytes,
                setting="ARBE_MAX_BODY_BYTES",
            )
            is_arc = scope["path"] == arc_answers.PATH
            refuse = arc_answers.too_large if is_arc else problems.response_of
            refusal = refuse(error)
            refusal.headers["Connection"] = "close"
            await refusal(scope, receive, send_with_id)
            return
        await self._app(scope, _Replay(body, receive), send_with_id)

    async def _read(self, receive: Receive) -> Message | None:
        """Return the body as one message, or None if it is larger than the limit.

        A client that went away in the middle yields `http.disconnect`.
        """
        message = await receive()
        if not message.get("more_body", False):
            size = len(message.get("body", b""))
            return message if size <= self._max_body_bytes else None
        chunks: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self._max_body_bytes:
                chunks.append(chunk)
            elif size > _DRAINED * self._max_body_bytes:
                return None
            if not message.get("more_body", False):
                whole = size <= self._max_body_bytes
                return {"type": "http.request", "body": b"".join(chunks)} if whole else None
            message = await receive()
        return message


class _Replay:
    """Gives the body that was read once, then whatever the server has to say."""

    def __init__(self, body: Message, receive: Receive) -> None:
        self._body: Message | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return body
        return await self._receive()


def _request_id(scope: Scope) -> bytes:
    """Return the caller's request id if it is harmless in a log, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            found: bytes = value
            return found
    return os.urandom(8).hex().encode()
