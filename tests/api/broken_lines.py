"""A stream server that speaks the contract and breaks its lines as the test has written.

It knows nothing of threads: it holds entries, and a script of how each connection goes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.api.loopback import serving

EVENT_STREAM = {"content-type": "text/event-stream"}


def entry(number: int, text: str = "x") -> dict[str, object]:
    place = f"{1_700_000_000_000 + number:015d}_0000000000"
    return {
        "id": place,
        "at": 1_700_000_000_000 + number,
        "payload": {"type": "t", "text": text},
    }


def data(*entries: dict[str, object]) -> bytes:
    return b"event: data\ndata:" + msgspec.json.encode(entries) + b"\n\n"


def control(after: str, *, tail: bool = False) -> bytes:
    more = ',"upToDate":true' if tail else ""
    return f'event: control\ndata:{{"streamNextOffset":"{after}"{more}}}\n\n'.encode()


GONE = b'event: gone\ndata:{"code":"gone"}\n\n'


@dataclass
class Lines:
    """How each connection goes: pieces to send, then the line is cut; or an HTTP status."""

    script: list[list[bytes] | int] = field(default_factory=list)
    offsets: list[str] = field(default_factory=list)
    """What each connection asked for."""
    url: str = ""

    async def stream(self, request: Request) -> Response:
        self.offsets.append(request.query_params["offset"])
        assert request.query_params["live"] == "sse"
        assert request.headers["authorization"] == "Bearer arbe_member_test"
        step = self.script.pop(0)
        if isinstance(step, int):
            return _problem(step)
        return StreamingResponse(_pieces(step), headers=EVENT_STREAM)


async def _pieces(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


def _problem(status: int) -> Response:
    code = {410: "gone", 503: "unavailable", 429: "too_busy", 404: "not_found"}.get(status)
    if code is None:
        return Response("<html>teapot</html>", status)
    problem = {
        "code": code,
        "detail": f"It is {code}.",
        "nextStep": "Do that.",
        "retryAfterSeconds": 0.01,
        "kind": "thread",
    }
    return Response(msgspec.json.encode(problem), status, media_type="application/problem+json")


@contextlib.asynccontextmanager
async def breaking() -> AsyncIterator[Lines]:
    """Serve one thread's stream as its script says."""
    lines = Lines()
    app = Starlette(routes=[Route("/v1/threads/{ref}/stream", lines.stream)])
    async with serving(app) as url:
        lines.url = url
        yield lines
