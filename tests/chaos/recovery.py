"""How long it took until a death was no longer felt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dispatch.ids import milliseconds_of
from dispatch.payloads.signals import Started
from tests.chaos import plan
from tests.chaos.events import FaultLog
from tests.chaos.record import Told


@dataclass(frozen=True)
class Times:
    """Some durations."""

    name: str
    seconds: Sequence[float]

    def summary(self) -> dict[str, Any]:
        """Return how many there are, and p50, p99 and the longest, in seconds."""
        ordered = sorted(self.seconds)
        if not ordered:
            return {"name": self.name, "count": 0}
        return {
            "name": self.name,
            "count": len(ordered),
            "p50": _at(ordered, 0.50),
            "p99": _at(ordered, 0.99),
            "max": ordered[-1],
        }


def measure(log: FaultLog, streams: Iterable[Told]) -> list[Times]:
    """Measure what deaths did to turns.

    The first measure is of every run that lived in a worker process when that was killed: until
    the record ended it, and its thread could go on. The others are of a server's death: until
    the next turn started anywhere.
    """
    told = list(streams)
    deaths = _deaths(log)
    starts = sorted(at_ms for each in told for at_ms, _ in each.starts.values())
    times = [Times("a worker's death until each of its runs was ended", _reaps(told, deaths))]
    for name in plan.SERVERS:
        moments = [event.at_ms for event in log.of("kill") if event.target == name]
        found = [_next(starts, at_ms) for at_ms in moments]
        times.append(
            Times(f"death of {name} until the next turn started", [s for s in found if s])
        )
    return times


def _deaths(log: FaultLog) -> dict[int, int]:
    """Return worker processes that died at once: pid → Unix ms."""
    return {
        event.pid: event.at_ms
        for event in log.of("ended")
        if event.target in plan.WORKERS
        and event.pid is not None
        and event.detail in {"SIGKILL", "exit 137"}
    }


def _reaps(streams: Iterable[Told], deaths: dict[int, int]) -> list[float]:
    found: list[float] = []
    for told in streams:
        for run_id, (started_ms, started) in told.starts.items():
            died_ms = deaths.get(_pid(started))
            ended_ms = _ended(told, run_id)
            if died_ms is not None and ended_ms is not None and started_ms <= died_ms:
                # Ended before: it was not there any more, or had just said its last word.
                found += [(ended_ms - died_ms) / 1000] if ended_ms > died_ms else []
    return found


def _ended(told: Told, run_id: str) -> int | None:
    if run_id in told.reaped:
        return told.reaped[run_id]
    for ends in told.terminals.values():
        for entry_id, payload in ends:
            if payload.run_id == run_id:
                return milliseconds_of(entry_id)
    return None


def _pid(started: Started) -> int:
    return int(started.worker_id.rsplit(".", 2)[1])


def _next(ordered: Sequence[int], at_ms: int) -> float | None:
    later = next((each for each in ordered if each > at_ms), None)
    return (later - at_ms) / 1000 if later is not None else None


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
