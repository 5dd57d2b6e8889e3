"""How far agents may wake each other: the smallest of what setting, thread and agent say."""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from dispatch.errors import Invalid

_KEY: Final = "maxAgentHops"
_MOST: Final = 100


def limit(*configs: Mapping[str, Any], most: int) -> int:
    """Return the smallest limit; a config that `check` would refuse says nothing."""
    for config in configs:
        said = config.get(_KEY)
        if _is_limit(said):
            most = min(most, said)
    return most


def check(config: Mapping[str, Any]) -> None:
    """Return if a thread's or an agent's config says nothing about hops, or something sensible.

    Raises: Invalid.
    """
    if _KEY in config and not _is_limit(config[_KEY]):
        raise Invalid(
            f"`{_KEY}` must be a whole number between 0 and {_MOST}.",
            next_step="0 lets an agent's answers wake nobody; leave it out for the default.",
        )


def _is_limit(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
