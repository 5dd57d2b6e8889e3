"""Simulated time, and the scripts that go by it.

Time is a key of the test's Redis. Entry ids are made from it as Redis would: greater than all
before them on the stream, whatever the clock says.
"""

import hashlib
from typing import Any, Final

from redis import Redis

from dispatch.streams.connection import Argument, Connection
from dispatch.streams.scripts import Revalidate, Scripts, source

CLOCK: Final = """
local BOOT = redis.call('GET', 'arbe:test:boot') or 'first'
local function now_ms()
  return tonumber(redis.call('GET', 'arbe:test:clock'))
end
local function next_id()
  local now = now_ms()
  if redis.call('EXISTS', KEYS[1]) == 0 then return string.format('%d-0', now) end
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local ms, n = string.match(info[i + 1], '^(%d+)-(%d+)$')
      if tonumber(ms) >= now then return string.format('%d-%d', ms, n + 1) end
    end
  end
  return string.format('%d-0', now)
end
"""
START_MS: Final = 1_700_000_000_000


class Clock:
    """Simulated time of one Redis."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._redis.set("arbe:test:clock", START_MS)

    @property
    def now_ms(self) -> int:
        return int(self._redis.get("arbe:test:clock"))

    def advance(self, seconds: float) -> None:
        self._redis.incrby("arbe:test:clock", int(seconds * 1000))


class Heard(Scripts):
    """The scripts, and the word of the last answer.

    `mutant`: a script's name, a piece of its text, and what stands there instead.
    """

    word = ""

    def __init__(
        self,
        connection: Connection,
        *,
        clock: str | None,
        mutant: tuple[str, str, str] | None = None,
        revalidate: Revalidate | None = None,
    ) -> None:
        super().__init__(connection, clock=clock, revalidate=revalidate)
        self._mutated: tuple[str, str] | None = None
        if mutant is not None:
            name, piece, other = mutant
            text = source(name, boot="", clock=clock)
            assert text.count(piece) == 1, "the mutation must find its place"
            self._mutated = (name, text.replace(piece, other))

    def revalidate_with(self, revalidate: Revalidate) -> None:
        """Ask this after a restart, as the record does."""
        self._revalidate = revalidate

    async def run(self, name: str, keys: list[str], *arguments: Argument) -> list[Any]:
        answer = await super().run(name, keys, *arguments)
        self.word = answer[0].decode()
        return answer

    def _assemble(self, name: str, boot: str) -> tuple[str, str]:
        if self._mutated is None or self._mutated[0] != name:
            return super()._assemble(name, boot)
        text = self._mutated[1]
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return text, digest
