"""Beat without a memory: what ran when is not worth a file that a kill may leave half written.

Celery's own scheduler keeps one, and ends at each start when that file is cut off. Ours begins
its timetable anew: each sweep is due within its period, and a sweep too many is harmless.
"""

from pathlib import Path
from typing import Any

from celery.beat import Scheduler


class Ticker(Scheduler):
    """Touches the file that `-s` names at every tick: its age is what a health check asks."""

    def __init__(self, *arguments: Any, schedule_filename: str, **named: Any) -> None:
        self._sign = Path(schedule_filename)
        super().__init__(*arguments, **named)

    def tick(self, *arguments: Any, **named: Any) -> Any:
        """Send what is due; return the seconds until the next is."""
        self._sign.touch()
        return super().tick(*arguments, **named)
