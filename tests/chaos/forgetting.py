"""A Redis that comes back without its last moments, as after a power loss.

Its append-only file is copied while it runs; a little later it is killed, and started again on
the copy. What was acknowledged in between is gone: that much is not promised (`appendfsync
everysec`). All the rest is, so the checker is told the windows and forgives nothing else.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SLACK_MS: Final = 2_000
"""From a call's arrival to the answer that we saw."""


@dataclass(frozen=True)
class Window:
    """What Redis wrote between these times it has forgotten."""

    first_ms: int
    last_ms: int


def remember(folder: Path) -> Path:
    """Copy what a Redis in this folder has written so far."""
    kept = folder.with_name(f"{folder.name}-kept")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for file in folder.glob("appendonly*"):
        copy = shutil.copytree if file.is_dir() else shutil.copy
        copy(file, kept / file.name)
    return kept


def forget(folder: Path, kept: Path) -> None:
    """Let the Redis in this folder find the copy when it starts."""
    for file in folder.glob("appendonly*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    for file in kept.iterdir():
        file.rename(folder / file.name)


def is_within(windows: Sequence[Window], at_ms: int) -> bool:
    """Tell whether something of that moment may have been forgotten."""
    return any(w.first_ms - _SLACK_MS <= at_ms <= w.last_ms + _SLACK_MS for w in windows)
