"""Errors of ours as the protocol's: a code, a sentence, and details."""

from typing import Any, Final

from dispatch.arc.envelope import Call
from dispatch.chats.errors import ChatAlreadyClosed, ChatExists, ChatNotFound
from dispatch.errors import (
    ArbeError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooBusy,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from dispatch.models.arc import ArcError, Code

_CODES: Final[dict[type[ArbeError], Code]] = {
    ChatNotFound: Code.CHAT_NOT_FOUND,
    ChatAlreadyClosed: Code.CHAT_CLOSED,
    ChatExists: Code.INVALID_PARAMS,
    Invalid: Code.INVALID_PARAMS,
    NotFound: Code.INVALID_PARAMS,
    Gone: Code.CHAT_NOT_FOUND,
    TooLarge: Code.TOO_LARGE,
    TooBusy: Code.RATE_LIMIT,
    Unauthenticated: Code.UNAUTHENTICATED,
    Forbidden: Code.FORBIDDEN,
    Unavailable: Code.AGENT_NOT_AVAILABLE,
    Conflict: Code.INVALID_PARAMS,
    ArbeError: Code.INTERNAL,
}
_CONFLICTS: Final = {
    "busy": Code.AGENT_NOT_AVAILABLE,
    "stream_full": Code.CHAT_OVERFLOW,
    "already_answered": Code.BAD_TRANSITION,
    "turn_ended": Code.BAD_TRANSITION,
    "parent_ended": Code.BAD_TRANSITION,
}


def code_of(error: ArbeError) -> Code:
    """Return the protocol's code of an error."""
    match error:
        case ArcError():
            return error.number
        case Conflict(reason=reason) if reason in _CONFLICTS:
            return _CONFLICTS[reason]
        case _:
            return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def of(error: ArbeError, call: Call) -> dict[str, Any]:
    """Return an error's object; `details` names what the call was about."""
    fields = error.details if isinstance(error, ArcError) else error.fields
    details = _subject(call) | {
        name: value for name, value in fields.items() if value is not None
    }
    return {"code": int(code_of(error)), "message": str(error), "details": details}


def unexpected(call: Call, request_id: str) -> dict[str, Any]:
    """Return the object for a mistake of ours; the log has it under this id."""
    return {
        "code": int(Code.INTERNAL),
        "message": "Something broke on our side. Repeat the call once, then report it.",
        "details": _subject(call) | {"requestId": request_id},
    }


def _subject(call: Call) -> dict[str, Any]:
    named = {name: call.params.get(name) for name in ("chatId", "taskId")}
    return {"agentId": call.target_agent[:80]} | {
        name: value[:200] for name, value in named.items() if isinstance(value, str)
    }
