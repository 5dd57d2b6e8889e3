"""What each method takes. Names are the protocol's; fields nobody knows are passed over."""

from typing import Any, Literal, TypeVar

import msgspec

from dispatch.errors import Invalid

Priority = Literal["LOW", "NORMAL", "HIGH", "URGENT"]
_T = TypeVar("_T")


class Params(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of all."""


class ChatStart(Params, frozen=True):
    """Of `chat.start`. `chat_id`: the caller's choice."""

    initial_message: dict[str, Any]
    chat_id: str | None = None
    stream: bool | None = None
    metadata: dict[str, Any] | None = None


class ChatMessage(Params, frozen=True):
    """Of `chat.message`."""

    chat_id: str
    message: dict[str, Any]
    stream: bool | None = None


class ChatEnd(Params, frozen=True):
    """Of `chat.end`."""

    chat_id: str
    reason: str | None = None


def read(given: dict[str, Any], kind: type[_T]) -> _T:
    """Return a method's parameters.

    Raises: Invalid, naming the field.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        what = str(error).replace("$.", "params.").replace("Object", "params", 1)
        raise Invalid(
            f"{what}.", next_step="docs/arc.md lists what each method takes."
        ) from error
