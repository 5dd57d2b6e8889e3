"""The effects as the world saw them: one line each, from every worker process."""

from pathlib import Path
from typing import Final

import msgspec

JOURNAL: Final = "CHAOS_JOURNAL"
"""Names the journal's file to the worker processes."""


class Effect(msgspec.Struct, frozen=True):
    """One step's effect."""

    at_ms: int
    thread_id: str
    dispatch_id: str
    attempt: int
    run_id: str
    step: int
    call_id: str
    """Of the intent that must stand on the stream."""
    agent: str
    pid: int


def read(file: Path) -> list[Effect]:
    """Return every effect, in the order in which they happened."""
    if not file.exists():
        return []
    return [msgspec.json.decode(line, type=Effect) for line in file.read_bytes().splitlines()]
