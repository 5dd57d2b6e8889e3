"""What a round is made of, and what it showed."""

from dataclasses import dataclass, field
from typing import Any

from tests.chaos import plan
from tests.chaos.plan import Fault
from tests.chaos.servers import BrokerKind


@dataclass(frozen=True)
class Options:
    """What a round is made of."""

    seed: int
    seconds: float
    kills: int
    broker: BrokerKind = "redis"
    broken: str = ""
    """The guard that is taken away; empty: none."""
    forgets: int = 0
    """How often Redis loses its last moments."""

    def plan(self, *, can_skew: bool = True) -> list[Fault]:
        """Return what will be done."""
        return plan.make(
            self.seed,
            seconds=self.seconds,
            kills=self.kills,
            forgets=self.forgets,
            can_skew=can_skew,
        )


@dataclass(frozen=True)
class Violation:
    """A broken promise and how it came to it."""

    thread_id: str
    promise: str
    history: list[str]
    faults: list[str]


@dataclass
class Verdict:
    """What a round showed."""

    options: Options
    kills: dict[str, int] = field(default_factory=dict)
    """Processes that died by a SIGKILL of ours, by name."""
    faults: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    terminals: dict[str, int] = field(default_factory=dict)
    recoveries: list[dict[str, Any]] = field(default_factory=list)
    rest_seconds: float = 0.0
    """From the last process's return until nothing ran any more."""
    notes: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
