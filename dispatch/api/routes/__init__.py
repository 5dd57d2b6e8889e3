"""The routes, one module per noun: read the request, call one operation, shape its answer."""

from typing import Annotated, Final

from fastapi import Header, Path, Query

from dispatch import ids
from dispatch.errors import Invalid
from dispatch.models.threads import ThreadStatus

Ref = Annotated[
    str,
    Path(description="An id, at least 4 digits of its beginning, or `@handle` of an agent."),
]
Id = Annotated[str, Path(description="A whole id.")]
Cursor = Annotated[
    str | None, Query(description="`nextCursor` of the page before; unset: the first page.")
]
Limit = Annotated[int | None, Query(description="Items of a page; 50 unless said otherwise.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="1 to 255 printable ASCII characters. The same call with the same key is "
        "made once and answered the same for two days; unset: every call counts.",
    ),
]
IfStatus = Annotated[
    list[ThreadStatus] | None,
    Query(
        alias="ifStatus",
        description="Only while the thread has one of these statuses, else 409 "
        "(`status_mismatch`). May be given several times.",
    ),
]
_MAX_KEY_CHARACTERS: Final = 255


def entry_key(given: str | None) -> str:
    """Return the idempotency key of a call: the client's, or a new one.

    Raises: Invalid.
    """
    if given is None:
        return ids.uuid7().hex
    if not (0 < len(given) <= _MAX_KEY_CHARACTERS and given.isascii() and given.isprintable()):
        raise Invalid(
            "The Idempotency-Key must be 1 to 255 printable ASCII characters.",
            next_step="Send a UUID, for example.",
        )
    return given


def statuses(
    in_query: list[ThreadStatus] | None, in_body: list[ThreadStatus]
) -> tuple[ThreadStatus, ...]:
    """Return the statuses that a call names in its query or in its body; none: any will do.

    Raises: Invalid, if both do: one of them is not meant.
    """
    if in_query and in_body:
        raise Invalid(
            "`ifStatus` stands in the query and in the body.", next_step="Send it once."
        )
    return tuple(in_query or in_body)
