"""What a command shows: results on stdout, everything else on stderr.

On a terminal results are tables and colours; in a pipe they are plain lines with tabs; with
`--json` they are JSON and nothing else. Texts of agents and tools never reach a terminal with
control characters in them.
"""

import re
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import msgspec
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from rich.table import Table

from dispatch.errors import ArbeError

Look = Literal["plain", "dim", "speaker", "tool", "error", "good"]

_STYLES: Final[Mapping[Look, Style]] = {
    "plain": Style(),
    "dim": Style(dim=True),
    "speaker": Style(bold=True, color="cyan"),
    "tool": Style(color="yellow"),
    "error": Style(bold=True, color="red"),
    "good": Style(color="green"),
}
_CONTROL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
"""Terminal sequences as a whole, then any control character but tab and newline."""


class Output:
    """One command's way to the person or program that called it."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._notes = Console(stderr=True, highlight=False, markup=False, emoji=False)

    @property
    def is_interactive(self) -> bool:
        """Tell whether a person can be asked: both ends are a terminal."""
        return sys.stdin.isatty() and self._notes.is_terminal

    def json(self, value: Any) -> None:
        """Print one JSON value on one line."""
        self._write(msgspec.json.encode(value).decode() + "\n")

    def line(self, text: str, look: Look = "plain") -> None:
        """Print one line of the result."""
        self.text(plain(text) + "\n", look)

    def text(self, text: str, look: Look = "plain") -> None:
        """Print a piece of text as it is, at once."""
        is_coloured = self._console.is_terminal and not self._console.no_color
        self._write(
            _STYLES[look].render(text, color_system=ColorSystem.STANDARD)
            if is_coloured and look != "plain"
            else text
        )

    def raw(self, data: bytes) -> None:
        """Print bytes as they are; to a terminal as text that cannot do it harm."""
        if self._console.is_terminal:
            self._write(plain(data.decode(errors="replace")))
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def table(self, rows: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
        """Print rows: a table for people, tabs without a header for programs."""
        if not self._console.is_terminal:
            for row in rows:
                self._write("\t".join(_one_line(cell) for cell in row) + "\n")
            return
        table = Table(box=None, pad_edge=False, header_style="dim")
        for index, column in enumerate(columns):
            # The first column is what the next command needs: it is never cut.
            table.add_column(column, no_wrap=index == 0, overflow="fold")
        for row in rows:
            table.add_row(*(_one_line(cell) for cell in row))
        self._console.print(table)

    def note(self, text: str) -> None:
        """Say something to the person at the terminal; programs do not see it."""
        if self._notes.is_terminal and not self.as_json:
            self._notes.print(plain(text), style="dim", soft_wrap=True)

    def error(self, error: ArbeError) -> None:
        """Say on stderr what went wrong and what to do; as one JSON object with `--json`."""
        if self.as_json:
            problem = {"code": error.code, "what": error.what, "nextStep": error.next_step}
            sys.stderr.write(msgspec.json.encode({**error.fields, **problem}).decode() + "\n")
            return
        self._notes.print(f"Error: {plain(error.what)}", style="red", soft_wrap=True)
        if error.next_step:
            self._notes.print(plain(error.next_step), soft_wrap=True)

    @contextmanager
    def progress(self, doing: str) -> Generator[None]:
        """Show that something long is under way, while the block runs."""
        if not self._notes.is_terminal:
            yield
            return
        with self._notes.status(plain(doing)):
            yield

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def plain(text: str) -> str:
    """Return the text without anything a terminal would obey; tabs and newlines stay."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())
