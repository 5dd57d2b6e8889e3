"""A process as the crash sweep sees it: it acts in steps to the outside, and may die at one.

Every call to Redis, every transaction, hint and effect is a step. A plan names steps by number,
counted over all processes of a play; there the process that acts is struck:

    before   the step is not done
    within   a transaction was under way, and is rolled back
    after    the step is done and nobody heard the answer
    pause    not a death: the process stops before the step, and goes on later

What is dead does nothing more: each later call of the same life is refused, in `finally` blocks
and background tasks too. A call that was already under way reaches its server.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple

from dispatch.errors import ArbeError

Kind = Literal["before", "within", "after", "pause"]

LIFE: contextvars.ContextVar["Life | None"] = contextvars.ContextVar("life", default=None)
"""Whose step it is; unset for whoever sets the stage or judges, which takes no step."""


class Death(BaseException):
    """The process is dead. No `except Exception` catches it, as none would survive SIGKILL."""


class Fault(NamedTuple):
    """Who comes to this step is struck.

    `until`: the step, of others, at which a paused process goes on: its number, or what it is.
    0: when all is repaired.
    """

    step: int
    kind: Kind
    until: int | str = 0


class Step(NamedTuple):
    """One step that was taken, for the history and for choosing where to die."""

    number: int
    who: str
    what: str
    is_transaction: bool


class Plan:
    """Where processes are struck, and what steps were really taken."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.steps: list[Step] = []
        self.struck: list[tuple[Step, Kind]] = []
        self._faults = {fault.step: fault for fault in faults}
        self._sleeping: list[tuple[int | str, Life]] = []

    def arrive(self, life: "Life", what: str, *, can: Collection[Kind]) -> Kind | None:
        """Count a step, wake whom it wakes, and return what shall happen at it."""
        step = Step(len(self.steps), life.name, what, "within" in can)
        self.steps.append(step)
        self._wake(step)
        fault = self._faults.get(step.number)
        if fault is None or fault.kind not in can:
            return None
        self.struck.append((step, fault.kind))
        if fault.kind == "pause" and fault.until:
            self._sleeping.append((fault.until, life))
        return fault.kind

    def _wake(self, step: Step) -> None:
        for until, life in self._sleeping:
            if step.what == until if isinstance(until, str) else step.number >= until:
                self._sleeping.remove((until, life))
                life.resume()
                return


_CALL: Final[tuple[Kind, ...]] = ("before", "after", "pause")
_TRANSACTION: Final[tuple[Kind, ...]] = (*_CALL, "within")


class Life:
    """One process from its start to its death."""

    def __init__(self, plan: Plan, name: str, play: Any) -> None:
        self.name = name
        self.play = play
        self.is_dead = False
        self.heartbeats: Any = None
        """Of a worker."""
        self.gone = asyncio.Event()
        """It answers no more: dead, or paused."""
        self.tasks: set[asyncio.Task[Any]] = set()
        self._plan = plan
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._resumed: asyncio.Event | None = None

    @staticmethod
    def acting() -> "Life":
        """Return the life that acts just now."""
        life = LIFE.get()
        assert life is not None
        return life

    @property
    def is_paused(self) -> bool:
        return self._resumed is not None

    # --- steps -------------------------------------------------------------------------------

    async def cross(self, what: str, do: Callable[[], Awaitable[Any]]) -> Any:
        """Take one step: `do` is what the outside does."""
        kind = await self.arrive(what)
        with self._io():
            answer = await do()
        self.leave(kind)
        return answer

    def cross_at_once(self, what: str, do: Callable[[], None]) -> None:
        """Take one step that cannot be waited for."""
        self._check()
        kind = self._plan.arrive(self, what, can=("before", "after"))
        if kind == "before":
            self.die()
        do()
        self.leave(kind)

    async def arrive(self, what: str, *, is_transaction: bool = False) -> Kind | None:
        """Come to a step; returns what shall happen at it."""
        await self._stand_still()
        self._check()
        kind = self._plan.arrive(self, what, can=_TRANSACTION if is_transaction else _CALL)
        if kind == "before":
            self.die()
        if kind == "pause":
            self._resumed = asyncio.Event()
            self.gone.set()
            await self._stand_still()
        return kind

    def leave(self, kind: Kind | None) -> None:
        """Hear a step's answer, if we still can."""
        if kind == "after":
            self.die()
        self._check()

    def die(self) -> None:
        self.is_dead = True
        self.gone.set()
        raise Death

    @contextmanager
    def transaction(self, kind: Kind | None) -> Iterator[Callable[[], None]]:
        """Hold a transaction open; what it yields is called just before the commit."""

        def commit() -> None:
            if kind == "within":
                self.die()
            self._check()

        try:
            with self._io():
                yield commit
        except Exception:
            if kind in {"within", "after"}:
                self.die()
            raise
        self.leave(kind)

    @contextmanager
    def _io(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    def _check(self) -> None:
        if self.is_dead:
            raise Death

    async def _stand_still(self) -> None:
        if self._resumed is not None:
            await self._resumed.wait()

    # --- from outside ------------------------------------------------------------------------

    def start(self, act: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        self.main = self.also(act)
        return self.main

    def also(self, act: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Let the same process do something beside."""
        context = contextvars.copy_context()
        context.run(LIFE.set, self)
        return asyncio.get_running_loop().create_task(act, context=context)

    async def until_answer_or_end(self) -> bool:
        """Wait for the answer; False if there will be none (now)."""
        gone = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({self.main, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        # What was put off until after the answer happens now, and may be the last.
        await asyncio.sleep(0)
        if self.is_dead:
            heard = self.main.done() and not self.main.cancelled() and not self.main.exception()
            await self.bury()
            return heard
        return self.main.done()

    def note_end(self, task: "asyncio.Task[Any]") -> None:
        """Forget a task; keep what it raised, unless that is part of the play."""
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Death | ArbeError):
            self.play.trouble.append(repr(error))

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._resumed is not None:
            self.gone.clear()
            self._resumed.set()
            self._resumed = None

    async def bury(self) -> None:
        """Let servers end what is under way, then take every task of the process away."""
        while self._under_way:
            self._quiet.clear()
            await self._quiet.wait()
        self.is_dead = True
        self.resume()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def make_task(
    loop: asyncio.AbstractEventLoop, work: Any, context: contextvars.Context | None = None
) -> "asyncio.Task[Any]":
    """Make a task known to the life it belongs to: a loop's task factory."""
    life = LIFE.get() if context is None else context.get(LIFE)
    task = asyncio.Task(work, loop=loop, context=context)
    if life is not None:
        life.tasks.add(task)
        task.add_done_callback(life.note_end)
    return task
