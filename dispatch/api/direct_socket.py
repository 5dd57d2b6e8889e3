"""Closing the socket of a client that does not read.

ASGI's own close waits until there is room, as every send does. So our uvicorn protocol offers
an ASGI extension of our own: a close that puts its frame behind what the client left unread,
and drops the connection if it is not taken soon. Without the extension (another server) such a
connection stays until the client or the network ends it.
"""

from asyncio.transports import BaseTransport
from typing import Final, cast

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

_EXTENSION: Final = "arbe.close"
_LINGER_SECONDS: Final = 5.0


class Closer:
    """Closes one connection without waiting."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: "Protocol") -> None:
        self._protocol = protocol

    def close(self, code: int, reason: str) -> None:
        """Send the close frame if the client reads again within seconds; then hang up."""
        protocol = self._protocol
        if protocol.close_sent or protocol.transport.is_closing():
            return
        protocol.stop_keepalive()
        protocol.conn.send_close(code, reason)
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
        if protocol.read_paused:
            protocol.read_paused = False
            protocol.transport.resume_reading()
        # The protocol stops this clock when the client answers, or is gone.
        protocol.close_timer = protocol.loop.call_later(
            _LINGER_SECONDS, protocol.transport.abort
        )


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which also offers a `Closer`, and never logs what tokens come in."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Take a connection, as uvicorn does."""
        super().connection_made(transport)
        # At level DEBUG it would log request lines and headers.
        self.conn.debug = False

    def handle_connect(self, event: Request) -> None:
        """Begin a connection, as uvicorn does."""
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"] = cast(
                "dict[str, dict[object, object]]",
                {**(self.scope.get("extensions") or {}), _EXTENSION: Closer(self)},
            )


def closer_of(scope: Scope) -> Closer | None:
    """Return the connection's closer, if the server offers one."""
    found = scope.get("extensions", {}).get(_EXTENSION)
    return found if isinstance(found, Closer) else None
