"""Server-sent events read from bytes.

Lines end at LF or CRLF and nowhere else: text splitters also cut at U+2028 and its like, which
JSON may carry raw.
"""

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec


class Event(msgspec.Struct, frozen=True):
    """One event: its name, and its data lines joined by LF."""

    name: str
    data: bytes


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Event]:
    """Yield each complete event; one that the end of the bytes cut off is dropped."""
    rest = b""
    name, data = "", list[bytes]()
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.removesuffix(b"\r").partition(b":")
            if field == b"event":
                name = value.removeprefix(b" ").decode()
            elif field == b"data":
                data.append(value.removeprefix(b" "))
            elif not field and not value and data:
                yield Event(name or "message", b"\n".join(data))
                name, data = "", []
