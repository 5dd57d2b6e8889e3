"""References as people type them: `@handle`, an id, or the beginning of an id."""

import re
import uuid
from typing import Final, Literal

import msgspec

from dispatch.errors import Invalid

RefKind = Literal["thread", "agent", "house", "environment"]
ALL_KINDS: Final[tuple[RefKind, ...]] = ("thread", "agent", "house", "environment")
"""The order in which a text is tried."""

_HEX: Final = re.compile(r"[0-9a-f]{4,32}\Z")
_DIGITS: Final = 32


class Ref(msgspec.Struct, frozen=True, kw_only=True):
    """What a text turned out to name."""

    kind: RefKind
    id: uuid.UUID


class IdRange(msgspec.Struct, frozen=True):
    """All ids that begin with the digits typed, both ends included."""

    low: uuid.UUID
    high: uuid.UUID


def id_range(text: str) -> IdRange:
    """Read a whole id or at least four digits of its beginning; dashes may stand anywhere.

    Raises: Invalid when the text can be no id.
    """
    digits = text.strip().lower().replace("-", "")
    if _HEX.match(digits) is None:
        raise Invalid(
            f"'{text[:80]}' is not a reference.",
            next_step="Give an id, at least 4 digits of its beginning, or an agent's @handle.",
        )
    return IdRange(uuid.UUID(digits.ljust(_DIGITS, "0")), uuid.UUID(digits.ljust(_DIGITS, "f")))
