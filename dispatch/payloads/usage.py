"""Token usage: what one run reported, and the roll-up of a thread.

Cost is US dollars on the wire; the roll-up adds integer nano-dollars, so that Lua and Python
come to the same sum in any order.
"""

from typing import Any, Final

import msgspec

COUNTS: Final = ("input", "output", "cacheRead", "cacheWrite", "totalTokens")
NANO: Final = 1_000_000_000
MAX_TOKENS: Final = 10**12
MAX_DOLLARS: Final = 10.0**6
"""Of one run: thousands of such runs add up to less than Redis's 64-bit integers hold."""


class Cost(msgspec.Struct, frozen=True, rename="camel"):
    """US dollars, by kind."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    total: float = 0.0


class TokenUsage(msgspec.Struct, frozen=True, rename="camel"):
    """What a turn used, in tokens; pi's shape."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    total_tokens: int = 0
    cost: Cost = Cost()


class UsageTotals(msgspec.Struct, frozen=True, rename="camel"):
    """A thread's roll-up: tokens, and the cost in nano-dollars."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    total_tokens: int = 0
    cost_nanos: int = 0

    def plus(self, usage: TokenUsage) -> "UsageTotals":
        """Add one run's usage."""
        return UsageTotals(
            input=self.input + usage.input,
            output=self.output + usage.output,
            cache_read=self.cache_read + usage.cache_read,
            cache_write=self.cache_write + usage.cache_write,
            total_tokens=self.total_tokens + usage.total_tokens,
            cost_nanos=self.cost_nanos + cost_nanos(usage),
        )

    def to_wire(self) -> dict[str, Any]:
        """Return the seed's `usage` object: counts and `cost.total` in dollars."""
        return {
            "input": self.input,
            "output": self.output,
            "cacheRead": self.cache_read,
            "cacheWrite": self.cache_write,
            "totalTokens": self.total_tokens,
            "cost": {"total": self.cost_nanos / NANO},
        }


def bounded(usage: TokenUsage) -> TokenUsage:
    """Return the usage with every amount between 0 and a sane maximum.

    An agent reports what it likes; the roll-up must neither shrink nor overflow by it.
    """
    return TokenUsage(
        input=_count(usage.input),
        output=_count(usage.output),
        cache_read=_count(usage.cache_read),
        cache_write=_count(usage.cache_write),
        total_tokens=_count(usage.total_tokens),
        cost=Cost(
            input=_dollars(usage.cost.input),
            output=_dollars(usage.cost.output),
            cache_read=_dollars(usage.cost.cache_read),
            cache_write=_dollars(usage.cost.cache_write),
            total=_dollars(usage.cost.total),
        ),
    )


def _count(tokens: int) -> int:
    return min(max(tokens, 0), MAX_TOKENS)


def _dollars(amount: float) -> float:
    # A NaN is not greater than 0.
    return min(amount, MAX_DOLLARS) if amount > 0 else 0.0


def cost_nanos(usage: TokenUsage) -> int:
    """Return the run's cost in whole nano-dollars."""
    return int(usage.cost.total * NANO + 0.5)
