"""Process clocks, for waiting and for logs. They decide nothing durable.

Leases and entries take Redis's clock inside a script, rows take Postgres's `now()`.
"""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the wall clock, aware, in UTC. For people only."""
    return datetime.now(UTC)


def monotonic_seconds() -> float:
    """Return seconds that never go back, for measuring a wait within this process."""
    return time.monotonic()


def milliseconds(moment: datetime) -> int:
    """Return Unix milliseconds of an aware moment, as the wire carries time."""
    return int(moment.timestamp() * 1000)
