"""`/ws`: chats with agents over one WebSocket. Messages: `dispatch/api/socket_frames.py`.

The token comes as `Authorization: Bearer …`, or as browsers can: the sub-protocols `arbe` and
`arbe.token.<token>`, `?access_token=`, or a first message `{"token": …}`. It is taken out of
what the server logs. Close codes: 1001 restarting, 1008 does not read, 1009 message too large,
1011 a mistake of ours, 1013 no room or no servers, 4401 no valid token, 4408 idle.
"""

from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter, WebSocket

from dispatch.api.socket_session import Session
from dispatch.api.sockets import Sockets
from dispatch.errors import TooBusy

router = APIRouter()
_PROTOCOL: Final = "arbe"
_TOKEN_PROTOCOL: Final = "arbe.token."  # noqa: S105 - the name of one
_TOKEN_PARAMETER: Final = "access_token"  # noqa: S105


@router.websocket("/ws")
async def websocket_endpoint(websocket: WebSocket) -> None:
    """Serve one socket from its first byte to its last."""
    sockets: Sockets = websocket.app.state.sockets
    token = _token_of(websocket)
    # The server logs the address it accepts.
    websocket.scope["query_string"] = b""
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=_PROTOCOL if _PROTOCOL in offered else None)
    session = Session(websocket, websocket.app.state.record, token=token)
    try:
        with sockets.holding(session):
            await session.run()
    except TooBusy as error:
        await session.refuse(error, 1013)


def _token_of(websocket: WebSocket) -> str | None:
    """Return the token that came with the request; None: it comes as the first message."""
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    for offered in websocket.scope.get("subprotocols", []):
        if offered.startswith(_TOKEN_PROTOCOL):
            return str(offered.removeprefix(_TOKEN_PROTOCOL))
    query = parse_qs(str(websocket.scope["query_string"], "latin-1"))
    return next(iter(query.get(_TOKEN_PARAMETER, ())), None)
