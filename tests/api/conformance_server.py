"""The stream endpoint dressed as a Durable Streams server, for the official conformance suite.

The suite makes its streams with PUT and POST and wants its own bytes back; here both are plain
fixtures, and answers of `serve` are unwrapped from our entries. By hand only:

    python -m tests.api.conformance_server redis://127.0.0.1:6379/0 4437
    CONFORMANCE_TEST_URL=http://127.0.0.1:4437 npx vitest run -t '^(?!Fork)'
"""

import base64
import contextlib
import re
import sys
from collections.abc import AsyncIterator

import msgspec
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from dispatch import ids
from dispatch.api import stream
from dispatch.config import Settings
from dispatch.errors import ArbeError
from dispatch.ids import ThreadId
from dispatch.streams import entries, keys, threads
from dispatch.streams.connection import Connection
from dispatch.streams.feed import Feed
from dispatch.streams.scripts import Scripts
from tests.api.stream_server import STATUS
from tests.streams.shelf import live

JSON = "application/json"
DATA_EVENT = re.compile(rb"event: data\n((?:data:[^\n]*\n)+)id: [^\n]*\n\n")


class Payload(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw()
    data: bytes = b""


class Entry(msgspec.Struct):
    payload: Payload


class Fixture:
    def __init__(self, kind: str) -> None:
        self.thread_id = ThreadId(ids.uuid7())
        self.kind = kind

    @property
    def is_json(self) -> bool:
        return self.kind.partition(";")[0].strip().lower() == JSON

    @property
    def is_text(self) -> bool:
        return self.is_json or self.kind.lower().startswith("text/")

    def payloads(self, body: bytes) -> list[bytes]:
        if not self.is_json:
            return [b'{"type":"x","data":"%s"}' % base64.b64encode(body)] if body else []
        raw = msgspec.json.decode(body, type=msgspec.Raw)
        items = [raw]
        if bytes(raw).lstrip().startswith(b"["):
            items = msgspec.json.decode(body, type=list[msgspec.Raw])
        return [b'{"type":"x","message":%s}' % bytes(item) for item in items]

    def unwrapped(self, body: bytes) -> bytes:
        found = [each.payload for each in msgspec.json.decode(body, type=list[Entry])]
        if self.is_json:
            return b"[%s]" % b",".join(bytes(each.message) for each in found)
        return b"".join(each.data for each in found)

    def event(self, match: re.Match[bytes]) -> bytes:
        body = self.unwrapped(match[1].replace(b"data:", b"", 1).rstrip(b"\n"))
        if not self.is_text:
            body = base64.b64encode(body)
        lines = re.sub(rb"\r\n|\r|\n", b"\ndata:", body)
        return b"event: data\ndata:%s\n\n" % lines


class Dressed(Response):
    """An answer of `serve` with the suite's own bytes in it."""

    def __init__(self, inner: Response, fixture: Fixture) -> None:
        super().__init__()
        self.inner, self.fixture = inner, fixture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_events = self.inner.headers.get("content-type") == "text/event-stream"
        if is_events and not self.fixture.is_text:
            self.inner.headers["stream-sse-data-encoding"] = "base64"

        async def dress(message: Message) -> None:
            if message.get("body"):
                message["body"] = DATA_EVENT.sub(self.fixture.event, message["body"])
            await send(message)

        if is_events:
            await self.inner(scope, receive, dress)
            return
        headers = dict(self.inner.headers)
        headers.pop("content-length", None)
        if "content-type" in headers:
            headers["content-type"] = self.fixture.kind
        body = self.inner.body
        if self.inner.status_code == 200 and body:
            body = self.fixture.unwrapped(bytes(body))
        dressed = Response(body, self.inner.status_code, headers=headers)
        await dressed(scope, receive, send)


class Suite:
    def __init__(self, url: str) -> None:
        self.settings = Settings(
            stream_url=SecretStr(url), long_poll_seconds=0.5, sse_seconds=10.0
        )
        self.url = url
        self.fixtures: dict[str, Fixture] = {}

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.connection = Connection(self.url, timeout_seconds=5)
        self.scripts = Scripts(self.connection)
        self.feed = Feed(live(self.connection), settings=self.settings)
        yield
        await self.feed.close()
        await self.connection.close()

    async def endpoint(self, request: Request) -> Response:
        answer = await self.answer(request)
        answer.headers.update(stream.SECURITY_HEADERS)
        return answer

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        if request.method == "PUT":
            return await self.create(request, path)
        fixture = self.fixtures.get(path)
        if fixture is None:
            return Response("unknown", 404)
        match request.method:
            case "POST":
                return await self.append(request, fixture)
            case "DELETE":
                await threads.delete(self.scripts, fixture.thread_id, tombstone_seconds=60)
                del self.fixtures[path]
                return Response(status_code=204)
            case _:
                return await self.read(request, fixture)

    async def create(self, request: Request, path: str) -> Response:
        kind = request.headers.get("content-type", "application/octet-stream")
        known = self.fixtures.get(path)
        if known is not None and known.kind.lower() != kind.lower():
            return Response(status_code=409)
        fixture = known or Fixture(kind)
        headers = {"content-type": fixture.kind, "location": str(request.url)}
        if known is None:
            self.fixtures[path] = fixture
            await self.connection.call(
                "HSET", keys.state(fixture.thread_id), "open", 1, "seq", 0
            )
            if body := await request.body():
                await self.write(fixture, body)
        headers["stream-next-offset"] = await entries.tail(self.connection, fixture.thread_id)
        return Response(status_code=200 if known else 201, headers=headers)

    async def append(self, request: Request, fixture: Fixture) -> Response:
        body = await request.body()
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].lower() != fixture.kind.partition(";")[0].lower():
            return Response(status_code=409 if kind else 400)
        try:
            written = await self.write(fixture, body) if body else 0
        except msgspec.DecodeError:
            written = 0
        if not written:
            return Response("nothing to append", 400)
        tail = await entries.tail(self.connection, fixture.thread_id)
        return Response(status_code=204, headers={"stream-next-offset": tail})

    async def write(self, fixture: Fixture, body: bytes) -> int:
        places = [keys.stream(fixture.thread_id), keys.state(fixture.thread_id)]
        payloads = fixture.payloads(body)
        for payload in payloads:
            await self.scripts.run("signal", places, payload)
        return len(payloads)

    async def read(self, request: Request, fixture: Fixture) -> Response:
        try:
            inner = await stream.serve(
                request,
                thread_id=fixture.thread_id,
                feed=self.feed,
                whole=live(self.connection),
                settings=self.settings,
                still_allowed=_allowed,
            )
        except ArbeError as error:
            return Response(error.what, STATUS[type(error)])
        return Dressed(inner, fixture)


async def _allowed() -> bool:
    return True


def main() -> None:
    suite = Suite(sys.argv[1])
    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    route = Route("/v1/stream/{path:path}", suite.endpoint, methods=methods)
    app = Starlette(routes=[route], lifespan=suite.lifespan)
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")


if __name__ == "__main__":
    main()
