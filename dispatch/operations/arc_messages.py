"""Messages of ARC clients, read: what they send becomes an entry.

An agent reads text: text parts as they are, data as JSON, and of a file its name. Every part
that is no text also stands on the entry as it came (`parts`).
"""

import json
from typing import Any, Final, cast

from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.operations import post_entry
from dispatch.operations.post_entry import Draft

_TEXT: Final = frozenset({"TextPart", "text"})
"""`text` is what the SDK's documents write; the protocol's word is `TextPart`."""
_OTHERS: Final = frozenset({"DataPart", "FilePart", "ImagePart", "AudioPart"})
_ROLES: Final = frozenset({"user", "agent", "system"})


def draft(message: Any, settings: Settings, *, place: str = "message") -> Draft:
    """Return the entry that a client's message becomes.

    Args: place: the message's name in the request, for the refusal.
    Raises: Invalid, TooLarge.
    """
    parts = _parts(message, place)
    texts = [_text(part, f"{place}.parts[{index}]") for index, part in enumerate(parts)]
    others = tuple(part for part in parts if part["type"] not in _TEXT)
    made = Draft(text="\n".join(text for text in texts if text), parts=others)
    post_entry.check(made, settings)
    return made


def text_of(message: Any, *, place: str = "message") -> str:
    """Return the text of a client's message.

    Raises: Invalid.
    """
    parts = _parts(message, place)
    return "\n".join(_text(part, f"{place}.parts[{i}]") for i, part in enumerate(parts))


def _parts(message: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(message, dict):
        raise _wrong(place, "must be an object with `role` and `parts`")
    given = cast("dict[str, Any]", message)
    if given.get("role") not in _ROLES:
        raise _wrong(f"{place}.role", "must be `user`, `agent` or `system`")
    parts = given.get("parts")
    if not isinstance(parts, list) or not parts:
        raise _wrong(f"{place}.parts", "must be an array of one part or more")
    found = cast("list[dict[str, Any] | None]", parts)
    for index, part in enumerate(found):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise _wrong(f"{place}.parts[{index}]", "must be an object with a `type`")
    return cast("list[dict[str, Any]]", found)


def _text(part: dict[str, Any], place: str) -> str:
    """Return what an agent reads of a part."""
    kind, content = part["type"], part.get("content")
    if kind in _TEXT:
        if not isinstance(content, str):
            raise _wrong(f"{place}.content", "must be a string")
        return content
    if kind not in _OTHERS:
        known = ", ".join(sorted(_OTHERS | {"TextPart"}))
        raise _wrong(f"{place}.type", f"must be one of {known}")
    if content is None:
        raise _wrong(f"{place}.content", "is missing")
    if kind == "DataPart":
        return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    names = (part.get("filename"), part.get("mimeType"))
    return f"[{' '.join([kind, *(each for each in names if isinstance(each, str))])}]"


def _wrong(place: str, what: str) -> Invalid:
    return Invalid(
        f"`{place}` {what}.",
        next_step='Send {"role": "user", "parts": [{"type": "TextPart", "content": "…"}]}.',
    )
