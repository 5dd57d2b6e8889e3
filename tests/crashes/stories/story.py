"""What a story is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.crashes.play import Play


@dataclass(frozen=True)
class Story:
    """What happens, and how the dispatches end when nobody dies."""

    name: str
    tell: Callable[[Play], Awaitable[None]]
    ends: dict[str, int]
