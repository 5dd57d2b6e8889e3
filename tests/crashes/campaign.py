"""Plays stories with deaths at chosen steps: one play, and which plays there are."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.crashes import history, judge
from tests.crashes.life import Death, Fault, Kind, Plan, Step, make_task
from tests.crashes.play import Play, begin
from tests.crashes.stories import STORIES
from tests.crashes.world import World

Faults = tuple[Fault, ...]
_STORIES: Final = {story.name: story for story in STORIES}
_NUMBER: Final = re.compile(r"\d")
_MAX_SECONDS: Final = 60.0
"""Nobody waits in a play, so one that lasts this long hangs."""


class Task(NamedTuple):
    """One play to be acted: a story's name and where its processes die."""

    story: str
    faults: Faults = ()
    insists: bool = True
    """False: a client whose request died goes away; else it repeats it."""


@dataclass
class Result:
    """What became of one play."""

    task: Task
    steps: list[Step]
    struck: list[tuple[Step, Kind]]
    endings: Counter[str]
    violation: str | None = None
    history: list[str] = field(default_factory=list)

    @property
    def deaths(self) -> int:
        return sum(kind != "pause" for _, kind in self.struck)


async def act(world: World, task: Task) -> Result:
    """Act a story with these faults, let the others repair, judge what is left."""
    story, plan = _STORIES[task.story], Plan(task.faults)
    result = Result(task, plan.steps, plan.struck, Counter())
    play = await begin(world, plan, insists=task.insists)
    with _watched(play):
        try:
            async with asyncio.timeout(_MAX_SECONDS):
                await story.tell(play)
                await play.settle()
                result.endings = await judge.judge(play)
            assert plan.struck or result.endings == Counter(story.ends), "nobody died, and yet"
        except Exception as error:  # noqa: BLE001 - whatever it was is the play's result
            result.violation = f"{type(error).__name__}: {error}"
            result.history = await history.tell(play, plan)
            await world.forget()
        finally:
            await play.end()
    return result


@contextmanager
def _watched(play: Play) -> Iterator[None]:
    """Know every task's life, and what callbacks raise."""
    loop = asyncio.get_running_loop()

    def notice(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Death | asyncio.CancelledError | None):
            play.trouble.append(repr(error))

    loop.set_task_factory(make_task)
    loop.set_exception_handler(notice)
    try:
        yield
    finally:
        loop.set_task_factory(None)
        loop.set_exception_handler(None)


def faults_at(step: Step) -> list[Fault]:
    """Return every way to be struck at a step."""
    kinds: list[Kind] = ["before", "after", "pause"]
    if step.is_transaction:
        kinds.append("within")
    return [Fault(step.number, kind) for kind in kinds]


def singles(dry: Result) -> list[Task]:
    """Return the plays of a story in which one process is struck once."""
    return [
        Task(dry.task.story, (fault,), insists)
        for step in dry.steps
        for fault in faults_at(step)
        for insists in _variants(step)
    ]


def distinct(dry: Result) -> list[Task]:
    """Return the plays with one death that leave different worlds behind.

    Dead before a step is dead after the same process's last one, or never begun; a transaction
    rolled back was not begun.
    """
    return [
        Task(dry.task.story, (Fault(step.number, "after"),), insists)
        for step in dry.steps
        for insists in _variants(step)
    ]


def _variants(step: Step) -> tuple[bool, ...]:
    return (True, False) if step.who.startswith("api") else (True,)


def context(dry: Result, task: Task) -> tuple[str, ...]:
    """Return the step of a play's first fault, and the three before it, without numbers."""
    number = task.faults[0].step
    steps = dry.steps[max(0, number - 3) : number + 1]
    return (str(task.insists), *(_NUMBER.sub("", f"{s.who} {s.what}") for s in steps))


def paused(dry: Result) -> list[Task]:
    """Return the plays in which one process is paused until all is repaired."""
    return [Task(dry.task.story, (Fault(step.number, "pause"),)) for step in dry.steps]


def overtaken(dry: Result) -> list[Task]:
    """Return plays in which a paused worker wakes in the middle of what others do meanwhile."""
    return [
        Task(dry.task.story, (Fault(step.number, "pause", step.number + later),))
        for step in dry.steps
        if step.who.startswith("worker")
        for later in range(6 + step.number % 6, 42, 6)
    ]


def doubled(dry: Result) -> list[Task]:
    """Return plays in which a paused worker wakes when another has just taken over its run.

    By the name of a step: numbers shift when a play's tasks take turns in another order.
    """
    return [
        Task(dry.task.story, (Fault(step.number, "pause", "postgres turn._agent"),))
        for step in dry.steps
        if step.who.startswith("worker")
    ]


def followers(result: Result) -> list[Task]:
    """Return the plays that go on as this one, and are struck once more, later, by a death."""
    last = result.task.faults[-1].step
    return [
        Task(result.task.story, (*result.task.faults, fault), result.task.insists)
        for step in result.steps[last + 1 :]
        for fault in faults_at(step)
        if fault.kind != "pause"
    ]
