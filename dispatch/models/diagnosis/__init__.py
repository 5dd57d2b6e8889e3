"""What stands still, why, and what to do about it: the words of `diagnose`. Pure.

`runs` judges one run, `turns` one dispatch, `threads` one thread, `verdicts` the whole. Here is
what they share: what a judge is told and what comes out. Nothing here repairs, and of what
people and agents wrote only the message of a failure comes through.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol, get_args

import msgspec

from dispatch.ids import DispatchId, EntryId, WorkerId
from dispatch.models.threads import Thread

Stage = Literal[
    "stalled",
    "no_progress",
    "failed",
    "cancelling",
    "backing_off",
    "queued",
    "waiting",
    "running",
    "rolled_back",
    "cancelled",
    "completed",
    "idle",
]
"""Where a dispatch stands, the worst first. `waiting`: for another turn, or for an answer."""
Gravity = Literal["failed", "stalled", "degraded"]
"""`failed`: nothing can start; `stalled`: something stands still; `degraded`: all goes on."""
Evidence = dict[str, str | int | bool | list[str] | None]
"""Facts behind a verdict; `…Ms` are Unix milliseconds, `…Seconds` durations."""


class Patience(Protocol):
    """How long silence is normal; `Settings` has it."""

    @property
    def redeliver_after_seconds(self) -> float:
        """After this long an unanswered hint is sent again."""
        ...

    @property
    def worker_dead_seconds(self) -> float:
        """A worker process that did not beat this long is dead."""
        ...

    @property
    def start_timeout_seconds(self) -> float:
        """A dispatch that nobody started this long is ended by a sweep."""
        ...


class Worker(msgspec.Struct, frozen=True):
    """A worker process as the record knows it."""

    id: WorkerId
    beat_ms: int
    runs: int = 0
    """Lanes it claimed; some may have gone on without it."""
    is_deaf: bool = False
    """It says that it hears nothing from the broker, and takes no new work."""


class AgentSeen(msgspec.Struct, frozen=True):
    """What people call an agent, and the broker queue its hints go to."""

    handle: str
    queue: str


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge sees besides the thread's own state. Read the row before the state."""

    now_ms: int
    """Redis's clock."""
    patience: Patience
    workers: Sequence[Worker] = ()
    """Every worker process that is known, dead ones too."""
    agents: Mapping[str, AgentSeen] = {}
    """By id as text."""
    row: Thread | None = None
    broker_answers: bool = True

    @property
    def living(self) -> list[Worker]:
        """Return the workers that beat lately."""
        return [worker for worker in self.workers if not self.is_dead(worker)]

    @property
    def taking(self) -> list[Worker]:
        """Return the living workers that take new work."""
        return [worker for worker in self.living if not worker.is_deaf]

    @property
    def ref(self) -> str:
        """Return how a command names the thread."""
        return str(self.row.id) if self.row is not None else "<id>"

    @property
    def reconcile(self) -> str:
        """Return what to do about what a sweep should have done."""
        return (
            f"Run `arbe thread reconcile {self.ref}`; then `arbe diagnose --fleet`: the sweeps "
            "should have done it."
        )

    def worker(self, worker_id: WorkerId) -> Worker | None:
        """Return a worker; None if it left, or the index of workers was lost."""
        return next((worker for worker in self.workers if worker.id == worker_id), None)

    def is_dead(self, worker: Worker) -> bool:
        """Tell whether a worker has beaten once and then stopped."""
        return self.now_ms - worker.beat_ms > self.patience.worker_dead_seconds * 1000

    def seconds_since(self, ms: int) -> int:
        """Return whole seconds since a moment; 0 if it is to come."""
        return max(0, (self.now_ms - ms) // 1000)

    def seconds_until(self, ms: int) -> int:
        """Return the seconds until a moment, rounded up; 0 if it has passed."""
        return max(0, -((self.now_ms - ms) // 1000))


class Said(NamedTuple):
    """A judge's words."""

    stage: Stage
    cause: str
    next_step: str


class Verdict(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Where one dispatch stands, why, and what to do about it."""

    stage: Stage
    dispatch_id: DispatchId | None = None
    attempt: int | None = None
    """The attempt under way, or the last one; None: ended or unknown, 0: none yet."""
    cause: str
    next_step: str
    evidence: Evidence = {}


class LaneVerdict(Verdict, frozen=True, rename="camel", kw_only=True):
    """Where the foremost dispatch of one agent's lane stands."""

    agent_id: str
    queued: int
    """Dispatches that wait in the lane, the foremost one too while nobody runs it."""


class Finding(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Something that is wrong around dispatches."""

    code: str
    gravity: Gravity
    cause: str
    next_step: str


class Event(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """An entry of the stream, without what it says."""

    id: EntryId
    type: str
    ago_seconds: int
    dispatch_id: str | None = None
    reason: str | None = None


class Diagnosis(Verdict, frozen=True, rename="camel", kw_only=True):
    """How a thread's last dispatch stands, and what else there is to know about the thread."""

    lanes: tuple[LaneVerdict, ...] = ()
    """One per agent with work, the worst first."""
    findings: tuple[Finding, ...] = ()
    events: tuple[Event, ...] = ()
    """The last entries, newest first."""


def rank(stage: Stage) -> int:
    """Return a stage's place among all; 0 is the worst."""
    return _WORST_FIRST.index(stage)


_WORST_FIRST: Final[tuple[Stage, ...]] = get_args(Stage)
