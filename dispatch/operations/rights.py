"""What an owner may and a member may not. Row level security holds the same line below."""

from dispatch.errors import Forbidden
from dispatch.models.houses import Caller


def require_owner(who: Caller, to: str) -> None:
    """Return if the caller owns the house.

    Args: to: what was asked for, as in "rename the house".
    Raises: Forbidden.
    """
    if who.role != "owner":
        raise Forbidden(
            f"Only an owner of the house may {to}.",
            next_step="Ask an owner, or use an owner's token.",
        )
