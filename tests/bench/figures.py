"""What a measurement yields: rows of rounds, and whether they reach their goals.

A row's ratio is the median of its rounds' ratios, never the ratio of medians: floor and subject
of one round were measured within the same moment, and the machine's mood cancels out.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """Samples of one side of one round, in the row's unit."""

    samples: Sequence[float]

    @property
    def p50(self) -> float:
        return quantile(self.samples, 0.5)

    @property
    def p99(self) -> float | None:
        return quantile(self.samples, 0.99) if len(self.samples) > 1 else None

    def document(self) -> dict[str, Any]:
        return {"p50": self.p50, "p99": self.p99, "count": len(self.samples)}


@dataclass(frozen=True)
class Round:
    """The floor and ours, measured one right after the other."""

    ours: Figure
    floor: Figure | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours.p50 / self.floor.p50 if self.floor is not None else None

    def document(self) -> dict[str, Any]:
        return {
            "ours": self.ours.document(),
            "floor": self.floor.document() if self.floor is not None else None,
            "ratio": self.ratio,
        }


@dataclass(frozen=True)
class Goal:
    """A limit for one of a row's numbers."""

    of: Literal["ratio", "p50", "p99"]
    limit: float
    at_least: bool = False

    def text(self, unit: str) -> str:
        sign = "≥" if self.at_least else "≤"
        if self.of == "ratio":
            return f"{sign} {self.limit:g} x"
        return f"{self.of} {sign} {self.limit:g} {unit}".rstrip()

    def missed_by(self, value: float) -> float:
        """Return how far the value is off, as a part of the limit; 0 if the goal is met."""
        over = self.limit - value if self.at_least else value - self.limit
        return max(0.0, over / self.limit if self.limit else over / value if value else 0.0)


@dataclass
class Row:
    """One line of the table."""

    what: str
    unit: str
    goals: tuple[Goal, ...] = ()
    where: str = "one core"
    """Which processes shared a core: placement moves these numbers more than the code does."""
    against: str = ""
    note: str = ""
    rounds: list[Round] = field(default_factory=list)

    def add(self, *, ours: Sequence[float], floor: Sequence[float] | None = None) -> None:
        self.rounds.append(Round(Figure(ours), Figure(floor) if floor is not None else None))

    @property
    def ours(self) -> Figure:
        return Figure([sample for each in self.rounds for sample in each.ours.samples])

    @property
    def floor(self) -> Figure | None:
        samples = [s for each in self.rounds if each.floor for s in each.floor.samples]
        return Figure(samples) if samples else None

    @property
    def ratios(self) -> list[float]:
        return [each.ratio for each in self.rounds if each.ratio is not None]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    def value(self, goal: Goal) -> float:
        found = {"ratio": self.ratio, "p50": self.ours.p50, "p99": self.ours.p99}[goal.of]
        return self.ours.p50 if found is None else found

    def document(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "unit": self.unit,
            "where": self.where,
            "against": self.against,
            "note": self.note,
            "ours": self.ours.document(),
            "floor": self.floor.document() if self.floor is not None else None,
            "ratio": self.ratio,
            "spread": [min(self.ratios), max(self.ratios)] if self.ratios else None,
            "goals": [
                {"goal": goal.text(self.unit), "missedBy": goal.missed_by(self.value(goal))}
                for goal in self.goals
            ],
            "rounds": [each.document() for each in self.rounds],
        }


def quantile(samples: Sequence[float], part: float) -> float:
    """Return the sample below which that part of all lies."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
