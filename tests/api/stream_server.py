"""`serve` behind a real uvicorn on loopback, with a switch for the right to read."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dispatch.api import direct, stream
from dispatch.config import Settings
from dispatch.errors import ArbeError, Gone, Invalid, NotFound, TooBusy, Unavailable
from dispatch.ids import ThreadId
from dispatch.streams.connection import Connection
from dispatch.streams.feed import Feed
from tests.streams.followed import Writer, wait_until
from tests.streams.shelf import live

STATUS: dict[type[ArbeError], int] = {
    Gone: 410,
    Invalid: 400,
    NotFound: 404,
    TooBusy: 503,
    Unavailable: 503,
}


class Served:
    """A running server. `allowed` is what `still_allowed` answers, unless it cannot."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.feed = Feed(live(connection), settings=settings)
        self.writer = Writer(connection, settings)
        self.allowed = True
        self.silent = False
        self.broken = False
        self.asked = 0
        """How often it was asked while broken."""
        self.url = ""
        self.port = 0

    def app(self) -> Starlette:
        async def endpoint(request: Request) -> Response:
            return await stream.serve(
                request,
                thread_id=ThreadId(request.path_params["thread_id"]),
                feed=self.feed,
                whole=live(self.connection),
                settings=self.settings,
                still_allowed=self._still_allowed,
            )

        methods = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"]
        return Starlette(
            routes=[Route("/{thread_id:uuid}/stream", endpoint, methods=methods)],
            exception_handlers={ArbeError: _problem},
        )

    def stream_of(self, thread_id: ThreadId) -> str:
        return f"{self.url}/{thread_id}/stream"

    async def _still_allowed(self) -> bool:
        self.asked += self.broken
        if self.silent:
            await asyncio.Event().wait()
        if self.broken:
            raise Unavailable("Postgres")
        return self.allowed


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ArbeError)
    return JSONResponse(
        {"code": error.code, "title": error.what},
        STATUS[type(error)],
        headers=stream.SECURITY_HEADERS,
    )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    stream_url: str, settings: Settings, *, http: type[HttpToolsProtocol] = direct.Protocol
) -> AsyncIterator[Served]:
    connection = Connection(stream_url, timeout_seconds=5)
    served = Served(connection, settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(200)
        served.port = listener.getsockname()[1]
        served.url = f"http://127.0.0.1:{served.port}"
        config = uvicorn.Config(served.app(), log_level="warning", lifespan="off", http=http)
        server = _Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await wait_until(lambda: server.started)
        try:
            yield served
        finally:
            await served.feed.close()
            server.should_exit = True
            await running
            await connection.close()


class Event(msgspec.Struct):
    """One server-sent event, as an EventSource would see it."""

    kind: str
    data: str
    id: str | None = None


def parse(text: str) -> list[Event]:
    events: list[Event] = []
    for block in text.split("\n\n")[:-1]:
        kind, data, last_id = "", [], None
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            match name:
                case "event":
                    kind = value.strip()
                case "data":
                    data.append(value)
                case "id":
                    last_id = value.strip()
                case _:
                    raise AssertionError(line)
        events.append(Event(kind, "\n".join(data), last_id))
    return events
