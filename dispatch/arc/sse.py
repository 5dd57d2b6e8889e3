"""A chat's answer as server-sent events, framed as arc-sdk's parser takes them.

    event: stream   data: {"chatId": …, "message": {…}}              a piece of what is said
    event: error    data: {"chatId": …, "error": {code, message, details}}
    event: done     data: {"chatId": …, "status": …, "done": true, "requestId": …, "message"?}

LF only, one line of data, and `done` last, also after `error`: that parser needs all three.
`message` in `done` is the whole answer, whatever pieces came before.
"""

from typing import Any, Final

import msgspec

from dispatch.arc.envelope import Call
from dispatch.operations.arc_chats import ChatEvent, Content, Done, Error

HEADERS: Final = {
    # Not by `media_type`: Starlette would add a charset.
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "connection": "keep-alive",
    "x-accel-buffering": "no",
}
PING: Final = b": ping\n\n"
_encoder: Final = msgspec.json.Encoder()


def frames(event: ChatEvent, call: Call, chat_id: str) -> bytes:
    """Return what goes over the wire for an event."""
    match event:
        case Content(delta):
            part = {"type": "TextPart", "content": delta}
            said = {"role": "agent", "parts": [part]}
            return _frame("stream", {"chatId": chat_id, "message": said})
        case Done(chat):
            more = {"message": chat["message"]} if "message" in chat else {}
            return _done(call, chat_id, str(chat["status"]), more)
        case Error(code, message, details):
            return refused(
                {"code": code, "message": message, "details": details}, call, chat_id
            )


def refused(error: dict[str, Any], call: Call, chat_id: str) -> bytes:
    """Return the frames of an answer that ends with an error."""
    told = _frame("error", {"chatId": chat_id, "error": error})
    return told + _done(call, chat_id, "ERROR", {})


def _done(call: Call, chat_id: str, status: str, more: dict[str, Any]) -> bytes:
    end: dict[str, Any] = {"chatId": chat_id, "status": status, "done": True}
    end["requestId"] = call.id
    if call.trace_id is not None:
        end["traceId"] = call.trace_id
    return _frame("done", end | more)


def _frame(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encoder.encode(data))
