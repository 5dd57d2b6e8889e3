"""ARC's bodies as OpenAPI shows them; `dispatch.arc` reads and writes them."""

from typing import Any, Final

_MESSAGE: Final[dict[str, Any]] = {
    "role": "user",
    "parts": [{"type": "TextPart", "content": "hello"}],
}
REQUEST: Final[dict[str, Any]] = {
    "arc": "1.0",
    "id": "1",
    "method": "chat.start",
    "requestAgent": "my-client",
    "targetAgent": "demo",
    "params": {"initialMessage": _MESSAGE},
}
_CHAT: Final[dict[str, Any]] = {
    "chatId": "chat-3f0c5d1e8a4b4c6f9d2e7a1b0c9d8e7f",
    "status": "ACTIVE",
    "message": {"role": "agent", "parts": [{"type": "TextPart", "content": "Hello!"}]},
    "createdAt": "2026-11-20T10:00:00.000Z",
}
RESULT: Final[dict[str, Any]] = {
    "arc": "1.0",
    "id": "1",
    "responseAgent": "demo",
    "targetAgent": "my-client",
    "result": {"type": "chat", "chat": _CHAT},
    "error": None,
}
_ERROR: Final[dict[str, Any]] = {
    "code": -44001,
    "message": "This needs a valid API token.",
    "details": {"agentId": "demo"},
}
INFO: Final[dict[str, Any]] = {
    "server": "arbe-dispatch",
    "status": "active",
    "endpoints": {"arc": "/arc"},
    "registeredAgents": {"demo": {"supportedMethods": ["chat.start"], "status": "active"}},
    "totalAgents": 1,
}
CARD: Final[dict[str, Any]] = {
    "name": "arbe-dispatch",
    "version": "0.1.0",
    "url": "https://dispatch.example.com/arc",
    "provider": {"organization": "Example"},
    "visibility": "private",
}
_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_TEXT: Final[dict[str, Any]] = {"type": "string"}

CALL: Final[dict[str, Any]] = {
    "security": [{"HTTPBearer": []}],
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same `chat.start`, `chat.message` or `task.create` with the "
            "same key is done once, and hears the same answer.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {"application/arc+json": {"schema": _OBJECT, "example": REQUEST}},
    },
}
"""What OpenAPI is told of `POST /arc` besides its answers."""
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Done, or refused: `error` has a `code`. Or the events of a stream.",
        "content": {
            "application/arc+json": {"schema": _OBJECT, "example": RESULT},
            "text/event-stream": {"schema": _TEXT, "example": "event: stream\ndata: {…}\n\n"},
        },
    },
    401: {
        "description": "No token, or not a living one.",
        "content": {
            "application/arc+json": {
                "schema": _OBJECT,
                "example": RESULT | {"result": None, "error": _ERROR},
            }
        },
    },
}


def document(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is a JSON object."""
    content = {"application/json": {"schema": _OBJECT, "example": example}}
    return {200: {"description": "Found.", "content": content}}
