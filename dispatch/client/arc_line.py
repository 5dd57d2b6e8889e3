"""ARC requests over a client's connection: envelopes out, answers and events in."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final
from uuid import uuid4

import msgspec

from dispatch.client import arc_answers, sse
from dispatch.client.arc_answers import ARCEvent, ARCResponse
from dispatch.client.connection import Connection, Json, present
from dispatch.client.problems import UnexpectedAnswer
from dispatch.errors import Unavailable

_VERSION: Final = "1.0"
_EVENT_STREAM: Final = "text/event-stream"
_HEADERS: Final = {
    "Content-Type": "application/arc+json",
    "Accept": f"application/arc+json, {_EVENT_STREAM}",
}
_REPEATABLE: Final = frozenset(
    {"chat.start", "chat.message", "chat.end", "task.create", "task.info"}
)
"""Calls that change nothing when they come again under the same `Idempotency-Key`, to servers
that know it, as ours does (docs/arc.md)."""
_ANSWER_SECONDS: Final = 300.0
"""An agent's answer takes as long as its turn; a stream may be silent this long."""


class Line:
    """ARC requests to one address."""

    def __init__(self, connection: Connection, endpoint: str, *, request_agent: str) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._request_agent = request_agent

    async def call(
        self,
        method: str,
        target_agent: str,
        params: Json,
        *,
        trace_id: str | None,
        timeout: float | None,
    ) -> ARCResponse:
        """Send one request and return the answer's envelope.

        Promise: nothing is said twice, however often a bad line makes it be sent.
        Raises: ArcRefusal (`arc_code`), Unauthenticated, Unavailable.
        """
        status, body = await self._connection.exchange(
            self._endpoint,
            self._request(method, target_agent, params, trace_id),
            headers=_HEADERS,
            timeout_seconds=timeout or _ANSWER_SECONDS,
            may_repeat=method in _REPEATABLE,
        )
        return self._envelope(status, body)

    async def stream(
        self,
        method: str,
        target_agent: str,
        params: Json,
        *,
        trace_id: str | None,
        timeout: float | None,
    ) -> AsyncGenerator[ARCEvent]:
        """Yield the events of one streamed answer; the request is sent with the first step.

        Promise: the line is given back before the last event (`done` or `error`) is handed out.
        Raises: as `call`, before the first event; Unavailable on a line that breaks.
        """
        last: ARCEvent | None = None
        async with self._connection.post_live(
            self._endpoint,
            self._request(method, target_agent, {**params, "stream": True}, trace_id),
            headers={**_HEADERS, "Accept": _EVENT_STREAM},
            timeout_seconds=timeout or _ANSWER_SECONDS,
        ) as response:
            if not response.headers.get("content-type", "").startswith(_EVENT_STREAM):
                self._envelope(response.status_code, await response.aread())
                raise self._unexpected(response.status_code)
            async with aclosing(sse.events(response.aiter_bytes())) as events:
                async for event in events:
                    found = self._event(event)
                    if found.is_last:
                        last = found
                        break
                    yield found
        if last is None:
            raise Unavailable(
                self._endpoint,
                cause="the answer broke off",
                next_step="The message was said: read its thread before you say it again.",
            )
        yield last

    def _request(
        self, method: str, target_agent: str, params: Json, trace_id: str | None
    ) -> Json:
        return present(
            {
                "arc": _VERSION,
                "id": str(uuid4()),
                "method": method,
                "requestAgent": self._request_agent,
                "targetAgent": target_agent,
                "params": present(params),
                "traceId": trace_id,
            }
        )

    def _envelope(self, status: int, body: bytes) -> ARCResponse:
        """Read an answer by what it says; servers differ in the HTTP statuses they give."""
        try:
            found = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError:
            raise self._connection.refusal(status, body) from None
        if isinstance(found.get("error"), dict):
            raise arc_answers.refusal_of(found["error"])
        if found.get("arc") != _VERSION or found.get("result") is None:
            raise self._connection.refusal(status, body)
        return ARCResponse(found)

    def _event(self, event: sse.Event) -> ARCEvent:
        try:
            data = msgspec.json.decode(event.data, type=dict[str, Any])
        except msgspec.DecodeError:
            raise self._unexpected(200) from None
        return ARCEvent.of({"event": event.name, "data": data})

    def _unexpected(self, status: int) -> UnexpectedAnswer:
        return UnexpectedAnswer(
            f"{self._endpoint} answered HTTP {status}, and not as an ARC server does.",
            next_step="Check the address: `endpoint` ends in /arc.",
            status=status,
        )
