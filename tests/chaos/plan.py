"""What is done to whom and when: a pure function of the seed and the size of the round."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tests.chaos import proxy

Kind = Literal[
    "kill", "stop", "term", "roll", "net", "cut", "flush", "duplicate", "reorder", "forge",
    "poison", "skew", "hang_up_followers", "produce", "forget",
]  # fmt: skip

APIS: Final = ("api1", "api2")
WORKERS: Final = ("worker1", "worker2", "worker3")
BEATS: Final = ("beat1", "beat2")
SERVERS: Final = ("redis", "postgres", "broker")
CLIENTS: Final = (*APIS, *WORKERS, *BEATS)
"""The processes of ours; each has its own way to each server."""
FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "api": APIS,
    "worker": WORKERS,
    "beat": BEATS,
    "redis": ("redis",),
    "postgres": ("postgres",),
    "broker": ("broker",),
}
SKEW_SECONDS: Final = 3600
_KILLED: Final = (
    ("worker",) * 5 + ("api",) * 2 + ("redis",) * 2 + ("beat", "postgres", "broker")
)
"""A bag of twelve deaths, shuffled and drawn empty before the next."""
_OTHERS: Final[tuple[Kind, ...]] = (
    ("net",) * 5
    + ("stop",) * 4
    + ("cut",) * 2
    + ("hang_up_followers",) * 2
    + ("term", "roll", "flush", "duplicate", "reorder", "forge", "poison", "skew")
    + ("produce",)
)
_WARM_UP_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Fault:
    """One blow."""

    at_seconds: float
    """From the beginning of the storm."""
    kind: Kind
    target: str = ""
    """A process; empty: the system."""
    seconds: float = 0.0
    """How long it lasts; for a death: until the process is started again."""
    server: str = ""
    """Which way of the target is bad."""
    how: str = ""
    """A proxy's mode, a cut's manner, when a poison works, or a skew."""

    def __str__(self) -> str:
        said = [f"{self.at_seconds:7.2f} s", self.kind, self.target, self.server, self.how]
        lasts = f"{self.seconds:.1f} s" if self.seconds else ""
        return " ".join(word for word in (*said, lasts) if word)


def make(
    seed: int, *, seconds: float, kills: int, forgets: int = 0, can_skew: bool = True
) -> list[Fault]:
    """Return the round's faults in order: `kills` deaths and about as many others.

    Args: forgets: how often Redis loses its last moments, on top.
    """
    dice = random.Random(seed)  # noqa: S311 - it must come again
    deaths = _drawn(dice, _KILLED, first=tuple(FAMILIES))
    blows = _drawn(dice, _OTHERS, first=("stop", "net"))
    faults = [
        *(_death(dice, next(deaths), at) for at in _moments(dice, kills, seconds)),
        *(_other(dice, next(blows), at) for at in _moments(dice, kills, seconds)),
        *(
            Fault(at, "forget", "redis", dice.uniform(0.2, 2.0))
            for at in _moments(dice, forgets, seconds)
        ),
    ]
    kept = [fault for fault in faults if can_skew or fault.kind != "skew"]
    return sorted(kept, key=lambda fault: fault.at_seconds)


def _moments(dice: random.Random, count: int, seconds: float) -> list[float]:
    step = (seconds - _WARM_UP_SECONDS) / max(count, 1)
    return [_WARM_UP_SECONDS + step * (i + dice.random()) for i in range(count)]


def _drawn(dice: random.Random, bag: Sequence[Kind], *, first: Sequence[str]) -> Iterator[Kind]:
    """Draw for ever; what is named first comes first, so that a short round has it too."""
    left = list(bag)
    for word in first:
        left.remove(word)
    yield from dice.sample(first, len(first))
    while True:
        yield from dice.sample(left, len(left))
        left = list(bag)


def _death(dice: random.Random, family: str, at_seconds: float) -> Fault:
    return Fault(
        at_seconds,
        "kill",
        dice.choice(FAMILIES[family]),
        seconds=dice.choice([0.0, 0.2, 1.0, 3.0]),
    )


def _other(dice: random.Random, kind: Kind, at_seconds: float) -> Fault:
    target, seconds, server, how = "", 0.0, "", ""
    match kind:
        case "stop":
            # Past the lease: who wakes up is a zombie. A server only stutters.
            target = dice.choice((*WORKERS * 3, *APIS, "redis", "broker"))
            seconds = dice.uniform(1.0, 3.0) if target in SERVERS else dice.uniform(7.0, 9.0)
        case "net":
            target, server = dice.choice((*WORKERS * 2, *APIS)), dice.choice(SERVERS)
            how, seconds = dice.choice(proxy.MODES), dice.uniform(1.0, 9.0)
        case "cut":
            target, server = dice.choice(CLIENTS), dice.choice(SERVERS)
            how = dice.choice(["close", "reset"])
        case "term":
            target = dice.choice(CLIENTS)
        case "poison":
            how = dice.choice(["before", "after"])
        case "skew":
            target = dice.choice(CLIENTS)
            how = dice.choice(["ahead", "ahead", "behind", "behind", "none"])
        case _:
            pass
    return Fault(at_seconds, kind, target, seconds, server, how)
