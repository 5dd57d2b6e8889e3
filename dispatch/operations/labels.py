"""What may stand in a name, a tag, a handle or free JSON; most limits guard the tables too."""

from typing import Any, Final, cast

import msgspec

from dispatch import ids
from dispatch.config import Settings
from dispatch.errors import Invalid, TooLarge
from dispatch.models import archives, hops

_MAX_DEPTH: Final = 32
"""Levels of objects and arrays in free JSON: far below what any reader's decoder takes."""

_MAX_REASON: Final = 2000
"""Characters; a check of the table `cancellations` too."""


def name(text: str, settings: Settings, *, what: str = "name") -> str:
    """Return a name without the blanks around it.

    Raises: Invalid, if nothing or too much is left.
    """
    stripped = text.strip()
    if not 1 <= len(stripped) <= settings.max_name_characters:
        raise Invalid(
            f"The {what} must have 1 to {settings.max_name_characters} characters.",
            next_step=f"Send a {what} of that length.",
        )
    return stripped


def tags(given: list[str], settings: Settings) -> list[str]:
    """Return the tags, each once, in their order.

    Raises: Invalid, if they are too many, empty or too long.
    """
    unique = list(dict.fromkeys(tag.strip() for tag in given))
    if len(unique) > settings.max_tags:
        raise Invalid(
            f"A thread has at most {settings.max_tags} tags.", next_step="Send fewer tags."
        )
    if any(not 1 <= len(tag) <= settings.max_tag_characters for tag in unique):
        raise Invalid(
            f"A tag must have 1 to {settings.max_tag_characters} characters.",
            next_step="Send shorter tags, and none that is empty.",
        )
    return unique


def reason(text: str | None) -> str | None:
    """Return what somebody says about why, if a row and a stream can hold it.

    Raises: Invalid.
    """
    if text is not None and (len(text) > _MAX_REASON or "\0" in text):
        raise Invalid(
            f"The message must have at most {_MAX_REASON} characters, and no NUL.",
            next_step="Send a shorter sentence.",
        )
    return text


def handle(text: str) -> str:
    """Return an agent's handle without its `@`.

    Raises: Invalid, if it could not be mentioned in a text.
    """
    bare = text.removeprefix("@")
    if ids.HANDLE.match(bare) is None:
        raise Invalid(
            f"'{text[:80]}' is not a handle.",
            next_step="Begin with a letter a-z; then up to 38 of a-z, 0-9, - and _.",
        )
    return bare


def thread_config(config: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return a thread's config, if what is read of it makes sense.

    Raises: Invalid.
    """
    free_json(config, what="config")
    hops.check(config)
    archives.check(config, settings)
    return config


def free_json(value: Any, *, what: str) -> None:
    """Return if objects and arrays are not nested too deep.

    Raises: Invalid.
    """
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise Invalid(
        f"`{what}` is nested deeper than {_MAX_DEPTH} levels.", next_step="Send flatter JSON."
    )


def metadata(given: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return what people note on a thread, if a row is to hold it.

    Raises: Invalid (too deep), TooLarge.
    """
    free_json(given, what="metadata")
    if len(msgspec.json.encode(given)) > settings.max_metadata_bytes:
        raise TooLarge(
            "The metadata",
            limit_bytes=settings.max_metadata_bytes,
            setting="ARBE_MAX_METADATA_BYTES",
        )
    return given


def _inside(value: Any) -> list[Any]:
    match value:
        case dict():
            return list(cast("dict[str, Any]", value).values())
        case list() | tuple():
            return list(cast("list[Any]", value))
        case _:
            return []
