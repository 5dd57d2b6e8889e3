"""The transitions, one Lua file each; this module assembles and runs them.

A script's text is `_clock.lua`, `_prelude.lua`, sometimes `_ending.lua`, then its own file. It
is addressed by its SHA-1; a Redis that does not know it (new, restarted) is sent the text once.
"""

import hashlib
from functools import cache
from importlib import resources
from typing import Any, Final

from redis.exceptions import NoScriptError

from dispatch.streams.connection import Argument, Connection

_ENDING: Final = frozenset({"finish", "release", "expire"})


def source(name: str, *, clock: str | None = None) -> str:
    """Return one script's full text; `clock` stands in for `_clock.lua` in simulated time."""
    parts = ["_prelude", "_ending", name] if name in _ENDING else ["_prelude", name]
    texts = [clock if clock is not None else _text("_clock"), *map(_text, parts)]
    return "\n".join(texts)


@cache
def _text(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.lua").read_text("utf-8")


class Scripts:
    """The transitions of one Redis, by name."""

    def __init__(self, connection: Connection, *, clock: str | None = None) -> None:
        self._connection = connection
        self._clock = clock
        self._known: dict[str, tuple[str, str]] = {}

    async def run(self, name: str, keys: list[str], *arguments: Argument) -> list[Any]:
        """Run one transition and return its answer, a list whose first item is the word."""
        text, digest = self._known.get(name) or self._assemble(name)
        try:
            reply = await self._connection.call("EVALSHA", digest, len(keys), *keys, *arguments)
        except NoScriptError:
            reply = await self._connection.call("EVAL", text, len(keys), *keys, *arguments)
        answer: list[Any] = reply
        return answer

    def _assemble(self, name: str) -> tuple[str, str]:
        text = source(name, clock=self._clock)
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._known[name] = (text, digest)
        return self._known[name]
