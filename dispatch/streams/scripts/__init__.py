"""The transitions, one Lua file each; this module assembles and runs them.

A script's text is `_clock.lua`, `_prelude.lua`, the parts it shares with others, then its own
file. It is addressed by its SHA-1; a Redis that does not know it (new, restarted) is sent the
text once. The text names the start of the server it was made for. A thread whose hash was last
seen under another start is compared with its row before anything is written to it.
"""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from functools import cache
from importlib import resources
from typing import Any, Final

from redis.exceptions import NoScriptError

from dispatch.errors import Gone, NotFound, Unavailable
from dispatch.ids import ThreadId
from dispatch.streams import keys
from dispatch.streams.connection import Argument, Connection, ServerRestarted

Revalidate = Callable[[ThreadId], Awaitable[None]]
"""Compares a thread's stream with what its row remembers, and makes it writable again."""
_PARTS: Final = {
    "_ending": frozenset({"finish", "release", "retry", "wait", "expire", "revalidate"}),
    "_asking": frozenset({"wait", "answer", "expire"}),
}
"""What several transitions share, and which."""
_MAX_RESTARTS: Final = 5
"""A server that starts anew this often during one call is not there."""


def source(name: str, *, boot: str, clock: str | None = None) -> str:
    """Return one script's full text; `clock` stands in for `_clock.lua` in simulated time."""
    shared = [part for part, users in _PARTS.items() if name in users]
    head = clock if clock is not None else _text("_clock").replace("@boot@", boot)
    return "\n".join([head, *map(_text, ["_prelude", *shared, name])])


@cache
def _text(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.lua").read_text("utf-8")


class Scripts:
    """The transitions of one Redis, by name."""

    def __init__(
        self,
        connection: Connection,
        *,
        revalidate: Revalidate | None = None,
        clock: str | None = None,
    ) -> None:
        self._connection = connection
        self._revalidate = revalidate
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[str, str]] = {}

    async def run(self, name: str, keys_: list[str], *arguments: Argument) -> list[Any]:
        """Run one transition and return its answer, a list whose first item is the word.

        Promise: a thread last seen under another start of Redis is revalidated first.
        Raises: Unavailable, also while its row cannot be asked.
        """
        for _ in range(_MAX_RESTARTS):
            try:
                answer = await self._evaluate(name, keys_, arguments)
            except ServerRestarted:
                continue
            if answer[0] != b"RESTARTED" or self._revalidate is None:
                return answer
            # What is gone answers so itself, next time.
            with contextlib.suppress(Gone, NotFound):
                await self._revalidate(keys.thread_of(keys_[0]))
        raise Unavailable("Redis", cause="it restarts again and again")

    async def _evaluate(
        self, name: str, keys_: list[str], arguments: tuple[Argument, ...]
    ) -> list[Any]:
        boot = await self._connection.boot()
        text, digest = self._known.get((name, boot)) or self._assemble(name, boot)
        tail: tuple[Argument, ...] = (len(keys_), *keys_, *arguments)
        call = self._connection.call
        try:
            reply = await call("EVALSHA", digest, *tail, boot=boot)
        except NoScriptError:
            reply = await call("EVAL", text, *tail, boot=boot)
        answer: list[Any] = reply
        return answer

    def _assemble(self, name: str, boot: str) -> tuple[str, str]:
        text = source(name, boot=boot, clock=self._clock)
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        if not any(known_boot == boot for _, known_boot in self._known):
            self._known.clear()
        self._known[name, boot] = (text, digest)
        return self._known[name, boot]
