"""The workers' Celery app over a Redis broker that stays connected and consumes nothing.

For as long as the file named by DEAFENED exists: `celery -A tests.system.deafened worker`.
"""

import os
from pathlib import Path
from typing import Any

from workers import redis_broker
from workers.celery_app import app

__all__ = ["app"]
_FILE = Path(os.environ["DEAFENED"])
_start_reading = redis_broker.Channel._brpop_start


def _unless_deafened(self: redis_broker.Channel, *arguments: Any, **named: Any) -> Any:
    return None if _FILE.exists() else _start_reading(self, *arguments, **named)


redis_broker.Channel._brpop_start = _unless_deafened
