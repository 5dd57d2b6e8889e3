"""What a turn asked people, and what they answered, as its stream tells it. Pure."""

from collections.abc import Iterable

import msgspec

from dispatch.errors import Invalid
from dispatch.models.edits import FoldEntry
from dispatch.payloads.signals import (
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
)

Answer = PermissionGranted | PermissionDenied | PermissionExpired


class Question(msgspec.Struct, frozen=True):
    """A question, and its answer if it has one."""

    asked: PermissionRequested
    answer: Answer | None = None


def questions(entries: Iterable[FoldEntry]) -> dict[str, Question]:
    """Return every question on a stream by its permission id, in the order of asking."""
    found: dict[str, Question] = {}
    for entry in entries:
        try:
            payload = entry.payload
        except Invalid:
            continue
        if isinstance(payload, PermissionRequested):
            found[payload.permission_id] = Question(payload)
        elif isinstance(payload, Answer) and payload.permission_id in found:
            found[payload.permission_id] = Question(found[payload.permission_id].asked, payload)
    return found
