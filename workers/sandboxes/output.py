"""What a command wrote: a live beginning, a kept tail, and a count. Memory is bounded.

Bytes that are not UTF-8, and NUL (which Postgres refuses in text), become U+FFFD.
"""

import codecs
from typing import Final

REPLACEMENT: Final = "\ufffd"
_CONTINUATION: Final = range(0x80, 0xC0)
_MAX_CONTINUATIONS: Final = 3
"""UTF-8: a character is one leading byte and at most three that continue it."""


class Output:
    """The output of one command, fed in the order it was written."""

    def __init__(self, max_bytes: int) -> None:
        self.total_bytes = 0
        self._max_bytes = max_bytes
        self._tail = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def truncated(self) -> bool:
        """Tell whether the tail lacks the beginning."""
        return self.total_bytes > self._max_bytes

    def feed(self, data: bytes) -> str:
        """Take the next bytes and return the text to show live; `b""` ends the output.

        Promise: a character split over two calls comes whole with the second. Only the first
        `max_bytes` are shown live, so a chatty command cannot flood a stream; the rest only
        moves the tail.
        """
        if not data:
            return "" if self.truncated else _clean(self._decoder.decode(b"", final=True))
        room = max(0, self._max_bytes - self.total_bytes)
        self.total_bytes += len(data)
        self._tail += data
        # Trimmed at twice the size: a byte is moved about once, not once per read.
        if len(self._tail) > 2 * self._max_bytes:
            del self._tail[: len(self._tail) - self._max_bytes]
        return _clean(self._decoder.decode(data[:room]))

    def tail(self) -> str:
        """Return the last `max_bytes` as text that is no longer than that in UTF-8 itself."""
        kept = _last(bytes(self._tail), self._max_bytes)
        text = _clean(kept.decode("utf-8", errors="replace"))
        # One stray byte became the three of U+FFFD, so the cut is made again.
        return _last(text.encode(), self._max_bytes).decode()


def _last(data: bytes, max_bytes: int) -> bytes:
    """Cut off the beginning, never inside a character."""
    if len(data) <= max_bytes:
        return data
    start = cut = len(data) - max_bytes
    while start < min(len(data), cut + _MAX_CONTINUATIONS) and data[start] in _CONTINUATION:
        start += 1
    return data[start:]


def _clean(text: str) -> str:
    return text.replace("\0", REPLACEMENT)
