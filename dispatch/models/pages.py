"""One page of a list, and where the next one begins."""

from typing import Generic, TypeVar

import msgspec

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """Some items in order. `next_cursor` is opaque to clients; None: this was the last page."""

    items: tuple[Item, ...]
    next_cursor: str | None = None
