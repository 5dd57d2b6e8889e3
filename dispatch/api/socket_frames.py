"""What goes over the WebSocket: JSON objects, one per message.

    in    {"agent_id", "message", "trace_id"?, "stream"?}      or, once and first, {"token"}
    out   {"type": "content" | "done" | "error", "data", "agent_id", "trace_id"}
          {"type": "response", "response": ENVELOPE, "agent_id", "trace_id", …ENVELOPE}

The ARC protocol's documents show two answers to a message without `stream`: the envelope itself
(`response.to_dict()`), and the envelope under `response`. Ours is both.
"""

from typing import Annotated, Any, Final

import msgspec

from dispatch.arc import envelope, errors
from dispatch.arc.envelope import Call
from dispatch.errors import ArbeError, Invalid
from dispatch.models.arc_turns import ChatEvent, ChatTurn, Content, Done, Error

_FORM: Final = (
    'Send {"agent_id": "@demo", "message": {"role": "user", "parts": [{"type": "TextPart", '
    '"content": "…"}]}, "stream": true}.'
)
_FIRST: Final = 'Send {"token": "<token>"}, or the header `Authorization: Bearer <token>`.'


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message for an agent."""

    agent_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    message: dict[str, Any]
    trace_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    stream: bool = False


class Token(msgspec.Struct, frozen=True):
    """Who speaks, from a client that could not say it with a header."""

    token: str


def ask_of(text: str | bytes) -> Ask:
    """Read a message. Raises: Invalid."""
    try:
        return msgspec.json.decode(text, type=Ask)
    except msgspec.DecodeError as error:
        raise Invalid(f"The message cannot be read: {error}.", next_step=_FORM) from error


def token_of(text: str | bytes) -> str:
    """Read the first message of a client without a token yet. Raises: Invalid."""
    try:
        return msgspec.json.decode(text, type=Token).token
    except msgspec.DecodeError as error:
        raise Invalid("The first message must bring the token.", next_step=_FIRST) from error


def answer(event: ChatEvent, turn: ChatTurn, ask: Ask) -> str | None:
    """Return the frame that tells of an event; None if the asker wants only the whole."""
    match event:
        case Content(delta):
            said = {"role": "agent", "parts": [{"type": "TextPart", "content": delta}]}
            found = {"chatId": turn.chat_id, "message": said}
            return _frame("content", found, ask) if ask.stream else None
        case Done(chat):
            if not ask.stream:
                return _response(chat, turn, ask)
            more = {"message": chat["message"]} if "message" in chat else {}
            end = {"chatId": turn.chat_id, "status": chat["status"], "done": True}
            return _frame("done", end | more, ask)
        case Error(code, message, details):
            error = {"code": code, "message": message, "details": details}
            return _frame("error", {"chatId": turn.chat_id, **error}, ask)


def refusal(error: ArbeError, ask: Ask | None) -> str:
    """Return the frame that says what is wrong, and what to do about it."""
    return _frame("error", errors.of(error, _call(ask)), ask)


def _response(chat: dict[str, Any], turn: ChatTurn, ask: Ask) -> str:
    call = _call(ask, entry_id=turn.entry_id)
    whole = envelope.result(call, {"type": "chat", "chat": chat})
    fields = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
    return _encode(
        {**fields, "type": "response", "response": msgspec.Raw(whole), **_about(ask)}
    )


def _call(ask: Ask | None, *, entry_id: str = "") -> Call:
    """Return the ARC request that a message stands for; its id is that of its entry."""
    if ask is None:
        return Call()
    return Call(
        id=msgspec.Raw(msgspec.json.encode(entry_id)),
        request_agent="websocket",
        target_agent=ask.agent_id,
        trace_id=ask.trace_id,
    )


def _frame(kind: str, data: dict[str, Any], ask: Ask | None) -> str:
    return _encode({"type": kind, "data": data, **_about(ask)})


def _about(ask: Ask | None) -> dict[str, str | None]:
    if ask is None:
        return {"agent_id": None, "trace_id": None}
    return {"agent_id": ask.agent_id, "trace_id": ask.trace_id}


def _encode(frame: dict[str, Any]) -> str:
    return msgspec.json.encode(frame).decode()
