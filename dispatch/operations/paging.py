"""Cursors of keyset paging: the id of the last item seen, opaque to whoever holds it.

A page is asked of a store with one item more than wanted: the surplus proves there is more.
"""

import uuid
from collections.abc import Callable
from typing import Protocol, TypeVar

from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.models.pages import Page

DEFAULT_LIMIT = 50


class _Identified(Protocol):
    @property
    def id(self) -> uuid.UUID: ...


Row = TypeVar("Row", bound=_Identified)
Id = TypeVar("Id")


def place(cursor: str | None, kind: Callable[[uuid.UUID], Id]) -> Id | None:
    """Return the id a cursor stands for; None without a cursor.

    Raises: Invalid, for a cursor no list of ours gave out.
    """
    if cursor is None:
        return None
    try:
        return kind(uuid.UUID(hex=cursor))
    except ValueError as error:
        raise bad_cursor() from error


def bad_cursor() -> Invalid:
    """Return the refusal of a cursor."""
    return Invalid(
        "This is not a cursor.",
        next_step="Send `nextCursor` of the page before, unchanged; or no cursor to begin.",
    )


def size(limit: int | None, settings: Settings) -> int:
    """Return how many items a page holds, within ARBE_MAX_PAGE_SIZE."""
    wanted = DEFAULT_LIMIT if limit is None else limit
    if not 1 <= wanted <= settings.max_page_size:
        raise Invalid(
            f"`limit` must be between 1 and {settings.max_page_size}.",
            next_step="Ask for fewer and follow `nextCursor`.",
        )
    return min(wanted, settings.max_page_size)


def page(found: tuple[Row, ...], limit: int) -> Page[Row]:
    """Make a page of up to `limit + 1` items that a store found."""
    items = found[:limit]
    return Page(items, items[-1].id.hex if len(found) > limit else None)
