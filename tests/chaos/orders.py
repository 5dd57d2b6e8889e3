"""What people say to the agents: each text is said once, so it can be counted on a stream."""

import random
from itertools import count

from tests.chaos.books import ThreadKind


class Orders:
    """Makes texts. A number that never comes again hides in each of them."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def make(self, kind: ThreadKind, dice: random.Random) -> str:
        """Return something that an agent of this kind of thread understands."""
        if kind in {"chaos", "again"}:
            return self._steps(dice)
        if kind == "demo":
            return self._demo(dice)
        # A mention wakes an agent elsewhere than in its own thread.
        chosen = dice.choice(["demo", "chaos", "both"])
        if chosen == "both":
            return f"@demo @chaos words for two, {self._number}"
        return f"@{chosen} " + (self._demo(dice) if chosen == "demo" else self._steps(dice))

    def poison(self, how: str) -> str:
        """Return what kills the worker process that takes it."""
        return f"die {how} {self._number}"

    def slow(self, kind: ThreadKind) -> str:
        """Return what an agent does for a while, most of it unseen."""
        number = self._number
        return f"mute: 2.5{number:07d}" if kind == "demo" else f"steps 3 0.8 {number}"

    @property
    def _number(self) -> int:
        return next(self._numbers)

    def _steps(self, dice: random.Random) -> str:
        steps, seconds = dice.choice([(1, 0.1), (1, 1.0), (2, 0.3), (3, 0.5), (5, 0.05)])
        return f"steps {steps} {seconds} {self._number}"

    def _demo(self, dice: random.Random) -> str:
        number = self._number
        seconds = dice.choice([0.2, 0.6, 1.5, 2.5])
        word = dice.choice(
            ["plain"] * 3 + ["mute"] * 3 + ["sleep"] * 2 + ["steps"] * 2 + ["run", "fail"]
        )
        match word:
            case "plain":
                return f"words that are numbered {number}"
            case "mute" | "sleep":
                # The number is too small a part of a second to be noticed.
                return f"{word}: {seconds:.1f}{number:07d}"
            case "steps":
                # With a checkpoint after each, and an ear for who steers.
                return f"steps: {dice.choice([2, 4])} {seconds / 2:.2f}{number:07d}"
            case "run":
                return f"run: echo {number}; sleep 0.{dice.randint(0, 5)}"
            case _:
                return f"fail: {number}"
