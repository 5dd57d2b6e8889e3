"""Exit codes of `arbe`, and the way a command ends with one."""

from typing import Final

OK: Final = 0
ERROR: Final = 1
"""Something went wrong; stderr says what, and what to do."""
FAILED: Final = 2
"""`diagnose`, `read`, `--follow`: the turn failed."""
STALLED: Final = 3
"""`diagnose`: nobody carries the dispatch on; `read --timeout`: it had not ended in time."""
CANCELLED: Final = 4
"""`read`, `--follow`: the turn was cancelled."""
USAGE: Final = 64
"""The command line itself is wrong (sysexits' EX_USAGE, so that 2 means one thing)."""
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

OF_OUTCOME: Final = {"completed": OK, "failed": FAILED, "cancelled": CANCELLED}


class Ended(Exception):
    """The command is over, with this exit code; everything has been said."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)
