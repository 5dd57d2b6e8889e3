"""Answers a process may use again for seconds, so that accepting an entry asks no database.

Not guaranteed: freshness across processes; a right that ended is noticed within `ttl_seconds`.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from dispatch import clock

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
_MAX_ITEMS: Final = 10_000


class Remembered(Generic[Key, Value]):
    """A bounded map whose items expire; the oldest go first."""

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl_seconds = ttl_seconds
        self._items: dict[Key, tuple[float, Value]] = {}

    def find(self, key: Key) -> Value | None:
        """Return what is remembered and still fresh, or None."""
        item = self._items.get(key)
        if item is None or item[0] < clock.monotonic_seconds():
            return None
        return item[1]

    def keep(self, key: Key, value: Value) -> Value:
        """Remember a value from now on; return it."""
        self._items.pop(key, None)
        while len(self._items) >= _MAX_ITEMS:
            del self._items[next(iter(self._items))]
        self._items[key] = (clock.monotonic_seconds() + self._ttl_seconds, value)
        return value

    def forget_all(self) -> None:
        """Drop everything, after a change this process made itself."""
        self._items.clear()
