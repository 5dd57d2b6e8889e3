"""Counts what became of the plays, and writes it down."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.crashes.campaign import Result


@dataclass
class Tally:
    """What a campaign has come to so far."""

    plays: Counter[int] = field(default_factory=Counter)
    """By how often somebody was struck in it."""
    strikes: Counter[str] = field(default_factory=Counter)
    """By kind."""
    endings: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Of each story: how its dispatches ended, in how many plays."""
    steps: dict[str, list[str]] = field(default_factory=dict)
    """Of each story, when nobody dies."""
    points: dict[str, dict[str, Counter[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Counter))
    )
    """Of each story, at each step: how the dispatches ended after one death there."""
    violations: list[Result] = field(default_factory=list)

    @property
    def deaths(self) -> int:
        return sum(count for kind, count in self.strikes.items() if kind != "pause")

    def count(self, result: Result) -> Result:
        """Count one play; return it."""
        self.plays[len(result.struck)] += 1
        self.strikes.update(kind for _, kind in result.struck)
        ended = ", ".join(f"{n} {word}" for word, n in sorted(result.endings.items()))
        self.endings[result.task.story][ended or "nothing"] += 1
        if result.violation:
            self.violations.append(result)
        if not result.task.faults:
            self.steps[result.task.story] = [
                f"{who} {what}" for _, who, what, _ in result.steps
            ]
        elif len(result.struck) == len(result.task.faults) == 1:
            [(step, kind)] = result.struck
            self.points[result.task.story][f"{step.number} {step.who} {step.what}"][
                f"{kind}: {ended or 'nothing'}"
            ] += 1
        return result

    def summary(self) -> str:
        """Return one line: how far, how bad."""
        return (
            f"{sum(self.plays.values())} plays, {self.deaths} deaths, "
            f"{self.strikes['pause']} pauses, {len(self.violations)} violations"
        )

    def report(self, *, seed: int, command: str, seconds: float) -> str:
        """Return everything as Markdown."""
        plays = ", ".join(f"{n} with {struck}" for struck, n in sorted(self.plays.items()))
        strikes = ", ".join(f"{n} {kind}" for kind, n in sorted(self.strikes.items()))
        points = sum(map(len, self.steps.values()))
        lines = [
            "# Crash sweep",
            "",
            "Every step to Redis, Postgres and the broker, and every effect of an agent, is a",
            "point where the process that takes it dies: before it, within it (a transaction",
            "is rolled back), or after it, unheard. `pause` is a process that stops before the",
            "step and goes on later, in the middle of what others do or when all is repaired.",
            "Then clients repeat, workers and sweeps go on under advanced time, and what is",
            "left is judged.",
            "",
            f"- Repeat: `{command}` (seed {seed})",
            f"- {points} points in {len(self.steps)} stories",
            f"- {sum(self.plays.values())} plays by number of strikes: {plays}",
            f"- {self.deaths} deaths; strikes: {strikes}",
            f"- {seconds:.0f} s",
            f"- **{len(self.violations)} violations**",
            "",
            "## How the stories ended",
            "",
            "| story | steps | dispatches ended | plays |",
            "| --- | --- | --- | --- |",
        ]
        for story, steps in self.steps.items():
            for ended, count in self.endings[story].most_common():
                lines.append(f"| {story} | {len(steps)} | {ended} | {count} |")
        for result in self.violations:
            lines += ["", f"## Violation: {result.violation}", "", "```text"]
            lines += [*told(result), "```"]
        return "\n".join(lines) + "\n"

    def detail(self) -> dict[str, object]:
        """Return, of each story, its steps and how it ended after one strike at each."""
        return {
            story: {
                "steps": steps,
                "endings": self.endings[story],
                "after one strike": self.points[story],
            }
            for story, steps in self.steps.items()
        }


def told(result: Result) -> list[str]:
    """Return a violation with the history that led to it."""
    where = ", ".join(f"{fault.kind} {fault.step}" for fault in result.task.faults)
    return [f"{result.task.story} [{where}]: {result.violation}", *result.history]
