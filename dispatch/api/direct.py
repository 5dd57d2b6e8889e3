"""Writing to a follower's socket at once, without waking its task.

With many followers most of an event's cost is a task switch and a pass through `send` for each.
So our uvicorn protocol offers an ASGI extension of our own: a writer of body chunks. It serves
only between the pieces of a chunked answer that its task sends, and only while the client keeps
up; the task does all else. Without the extension (another server) all goes through `send`.
"""

import asyncio
from typing import Final, cast

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION: Final = "arbe.direct"


class Writer:
    """Writes chunks of one connection's open answer."""

    __slots__ = ("_flow", "_transport")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport = transport
        self._flow = flow

    def write(self, chunk: bytes) -> bool:
        """Write one chunk; False if the client does not keep up: then nothing was written."""
        if self._flow.write_paused or self._transport.is_closing():
            return False
        self._transport.write(chunk)
        return True


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which also offers a `Writer`."""

    def on_message_begin(self) -> None:
        """Begin a request, as uvicorn does."""
        super().on_message_begin()
        writer = Writer(self.transport, self.flow)
        self.scope["extensions"] = cast("dict[str, dict[object, object]]", {_EXTENSION: writer})


def writer_of(scope: Scope) -> Writer | None:
    """Return the request's writer, if the server offers one."""
    found = scope.get("extensions", {}).get(_EXTENSION)
    return found if isinstance(found, Writer) else None


def chunk(body: bytes) -> bytes:
    """Return a piece of a body as HTTP/1.1's chunked encoding frames it."""
    return b"%x\r\n%s\r\n" % (len(body), body)
