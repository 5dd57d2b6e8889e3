"""One readable log of several processes: every line under the name of its process.

Goes to a file with size rotation and to standard error. Secrets are blanked out by the same
scrubber as in `dispatch.log`. Not guaranteed: the order of lines of different processes.
"""

import contextlib
import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Final, TextIO

from dispatch import log

_MAX_BYTES: Final = 10 * 1024 * 1024
_OLD_FILES: Final = 3
_NAME_WIDTH: Final = 8
_COLOURS: Final = (36, 33, 32, 35, 34, 31)
_MAX_LINE_CHARACTERS: Final = 8192


class Journal:
    """The log of one `arbe up`; used from the event loop only."""

    def __init__(self, path: Path, *, echo: TextIO | None = sys.stderr) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = logging.handlers.RotatingFileHandler(
            path, maxBytes=_MAX_BYTES, backupCount=_OLD_FILES, encoding="utf-8"
        )
        self._echo = echo
        self._colour_of: dict[str, int] = {}

    def write(self, name: str, line: str) -> None:
        """Write one line of the process of that name; overlong lines lose their tail."""
        text = log.scrub(line.rstrip())[:_MAX_LINE_CHARACTERS]
        self._file.emit(
            logging.makeLogRecord({"msg": "%s", "args": (f"{name:<{_NAME_WIDTH}} | {text}",)})
        )
        if self._echo is None:
            return
        try:
            self._echo.write(f"{self._label(name)} | {text}\n")
            self._echo.flush()
        except (OSError, ValueError):
            # Nobody reads any more (`arbe up | head`): the file goes on.
            self._echo = None

    def close(self) -> None:
        """Close the file; later lines would open it again."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _label(self, name: str) -> str:
        label = f"{name:<{_NAME_WIDTH}}"
        if self._echo is None or not self._echo.isatty():
            return label
        colour = self._colour_of.setdefault(
            name, _COLOURS[len(self._colour_of) % len(_COLOURS)]
        )
        return f"\x1b[{colour}m{label}\x1b[0m"
