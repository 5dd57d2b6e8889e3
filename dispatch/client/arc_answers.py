"""What an ARC server says: answers, events of a stream, refusals.

Answers and events are the wire's JSON as dicts that also know their parts by name, so they can
be handed on as they are (`websocket.send_json(answer)`).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

from dispatch.client.connection import Json
from dispatch.errors import ArbeError, Unauthenticated

CHAT_NOT_FOUND: Final = -43001
CHAT_ALREADY_CLOSED: Final = -43002
STREAM_FAILED: Final = -43005
_LOST: Final = frozenset({CHAT_NOT_FOUND, CHAT_ALREADY_CLOSED})
_CHAT_CODES: Final = range(-43099, -42999)
_NO_LIVING_TOKEN: Final = frozenset({-44001, -44004, -44005})
_NAMES: Final = {"stream": "content", "chat": "content"}
"""Servers of the protocol differ in what they call a piece of an answer."""


class ArcRefusal(ArbeError):
    """A refusal in the protocol's own words: `arc_code`, and `details` as they came."""

    code: ClassVar[str] = "arc_refusal"

    def __init__(self, arc_code: int, what: str, *, details: Json | None = None) -> None:
        self.arc_code = arc_code
        self.details = details or {}
        super().__init__(
            what, next_step=str(self.details.get("nextStep", "")), arcCode=arc_code
        )

    @property
    def chat_is_lost(self) -> bool:
        """Tell whether the chat does not exist (any more), or is closed."""
        return self.arc_code in _LOST

    @property
    def leaves_a_chat(self) -> bool:
        """Tell whether what failed happened in a chat that is open."""
        in_chat = self.arc_code in _CHAT_CODES or bool(self.details.get("chatId"))
        return in_chat and not self.chat_is_lost


class ARCResponse(dict[str, Any]):
    """An answer's envelope: `{arc, id, responseAgent, targetAgent, traceId?, result}`."""

    @property
    def result(self) -> Any:
        """Return what the method answers: `{type, chat}`, `{type, task}` …, or None."""
        return self.get("result")

    @property
    def error(self) -> Json | None:
        """Return `{code, message, details}`, or None."""
        return _object(self.get("error"))

    def to_dict(self) -> Json:
        """Return the envelope as a plain dict."""
        return dict(self)


class ARCEvent(dict[str, Any]):
    """One event of a streamed answer: `{event, data}`.

    `content`: `data.message` holds the next words, not those before. `done`: the answer is
    whole. `error`: it ends here, `data.error` says why. One of the last two ends a stream.
    """

    @classmethod
    def of(cls, given: Any) -> "ARCEvent":
        """Return the event that any ARC client handed out, under our names."""
        if isinstance(given, Mapping):
            known = cast("Mapping[str, Any]", given)
            name, data = known.get("event"), known.get("data")
        else:
            name, data = given.event, given.data
        return cls(event=_NAMES.get(str(name), str(name)), data=data)

    @property
    def event(self) -> str:
        """Return `content`, `done` or `error`."""
        return str(self["event"])

    @property
    def data(self) -> Any:
        """Return the event's object; it has a `chatId`."""
        return self["data"]

    @property
    def is_last(self) -> bool:
        """Tell whether nothing follows."""
        return self.event in {"done", "error"}

    @property
    def chat_id(self) -> str | None:
        """Return the chat it belongs to; None if it does not say, or there is no such chat."""
        refusal, found = self.refusal, (_object(self["data"]) or {}).get("chatId")
        if isinstance(refusal, ArcRefusal) and refusal.leaves_a_chat:
            found = found or refusal.details.get("chatId")
        elif refusal is not None:
            return None
        return str(found) if found else None

    @classmethod
    def refused(cls, error: ArcRefusal, *, chat_id: str | None) -> "ARCEvent":
        """Return the event that tells of a refusal."""
        told = {"code": error.arc_code, "message": error.what, "details": error.details}
        return cls(event="error", data={"chatId": chat_id, "error": told})

    @property
    def refusal(self) -> ArbeError | None:
        """Return what an `error` event tells of."""
        data = _object(self["data"]) or {}
        return refusal_of(_object(data.get("error")) or data) if self.event == "error" else None


def refusal_of(error: Json) -> ArbeError:
    """Return the error that an answer's `error` object tells of. Never raises."""
    code = error.get("code")
    return made(
        code if isinstance(code, int) else 0,
        str(error.get("message", "")),
        error.get("details"),
    )


def made(arc_code: int, message: str, details: object) -> ArbeError:
    """Return the error of a code: a token's is everywhere the same, whatever the door."""
    if arc_code in _NO_LIVING_TOKEN:
        return Unauthenticated()
    return ArcRefusal(arc_code, message or f"ARC error {arc_code}.", details=_object(details))


def _object(value: object) -> Json | None:
    return cast("Json", value) if isinstance(value, dict) else None
