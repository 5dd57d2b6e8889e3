"""Carries the plan out: each fault at its time, whatever the others are doing to the system."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos import forgetting, plan
from tests.chaos.events import now_ms
from tests.chaos.followers import Followers
from tests.chaos.forgetting import Window
from tests.chaos.hints import Meddler
from tests.chaos.load import Load
from tests.chaos.plan import Fault
from tests.chaos.slots import Slot
from tests.chaos.stage import Stage

_END_SECONDS: Final = 20.0
"""From SIGTERM to the end; the drain is a tenth of this."""
_FIND_SECONDS: Final = 10.0
_BACK_SECONDS: Final = 30.0
_BEFORE_WAKING_SECONDS: Final = 1.0
_MEDDLED_LANES: Final = 12
_PROBE_SECONDS: Final = 0.1


@dataclass(eq=False)
class Storm:
    """One round's faults and whom they meet."""

    stage: Stage
    load: Load
    followers: Followers
    meddler: Meddler
    slow_ends: list[str] = field(default_factory=list)
    """Processes that did not end in time when they were told to."""
    forgotten: list[Window] = field(default_factory=list)
    """What Redis no longer knows."""
    _under_way: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self, faults: Sequence[Fault], *, seconds: float) -> None:
        """Carry out all of them; returns when the last one is over."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for fault in faults:
            await asyncio.sleep(max(0.0, began + fault.at_seconds - loop.time()))
            task = asyncio.create_task(self._apply(fault))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        await asyncio.sleep(max(0.0, began + seconds - loop.time()))
        await asyncio.gather(*self._under_way)

    async def _apply(self, fault: Fault) -> None:
        acts: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "term": self._term,
            "roll": self._roll,
            "net": self._net,
            "cut": self._cut,
            "poison": self._poison,
            "skew": self._skew,
            "hang_up_followers": self._hang_up_followers,
            "produce": self._produce,
            "forget": self._forget,
        }
        await acts.get(fault.kind, self._meddle)(fault)

    def _note(self, fault: Fault, target: str = "", *, pid: int | None = None) -> None:
        words = (fault.server, fault.how, f"{fault.seconds:.1f} s" if fault.seconds else "")
        detail = " ".join(word for word in words if word)
        self.stage.log.note(fault.kind, target or fault.target, detail, pid=pid)

    async def _kill(self, fault: Fault) -> None:
        slot = await self._somebody(fault.target)
        if slot is None:
            self.stage.log.note("nobody", fault.target, "to kill")
            return
        self._note(fault, slot.name, pid=slot.pid)
        slot.send(signal.SIGKILL, restart_after_seconds=fault.seconds)

    async def _somebody(self, name: str) -> Slot | None:
        """Return who is to die: the one named, or another of its kind if it is dead already."""
        family = next(each for each in plan.FAMILIES.values() if name in each)
        for _ in range(int(_FIND_SECONDS / _PROBE_SECONDS)):
            for candidate in (name, *family):
                slot = self.stage.slots[candidate]
                if slot.pid is not None:
                    return slot
            await asyncio.sleep(_PROBE_SECONDS)
        return None

    async def _stop(self, fault: Fault) -> None:
        slot = self.stage.slots[fault.target]
        pid = slot.pid
        if not slot.send(signal.SIGSTOP):
            return
        self._note(fault, pid=pid)
        try:
            await asyncio.sleep(fault.seconds - _BEFORE_WAKING_SECONDS)
            if fault.target in plan.WORKERS:
                # Its lanes are to be held by others when it wakes up.
                self.load.occupy()
            await asyncio.sleep(_BEFORE_WAKING_SECONDS)
        finally:
            if slot.pid == pid:
                slot.send(signal.SIGCONT)
                self.stage.log.note("go_on", fault.target, pid=pid)

    async def _term(self, fault: Fault) -> None:
        self._note(fault, pid=self.stage.slots[fault.target].pid)
        await self._end(fault.target)

    async def _end(self, name: str) -> None:
        """Tell a process to end; after a long time, make it."""
        slot = self.stage.slots[name]
        process = slot.process
        if process is None or not slot.send(signal.SIGTERM):
            return
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            self.stage.log.note("slow_end", name, pid=process.pid)
            self.slow_ends.append(name)
            if slot.pid == process.pid:
                slot.send(signal.SIGKILL)

    async def _roll(self, fault: Fault) -> None:
        """Restart all workers, one after the other, each when the one before is back."""
        self._note(fault, "workers")
        for name in plan.WORKERS:
            await self._end(name)
            try:
                async with asyncio.timeout(_BACK_SECONDS):
                    await self.stage.slots[name].ready.wait()
            except TimeoutError:
                self.stage.log.note("slow_start", name)

    async def _net(self, fault: Fault) -> None:
        way = self.stage.ways[fault.target, fault.server]
        self._note(fault)
        try:
            # A delay is per piece, each way.
            await way.set(fault.how, delay_seconds=fault.seconds / 40)
            await asyncio.sleep(fault.seconds)
        finally:
            await way.set("pass")
            self.stage.log.note("net_over", fault.target, fault.server)

    async def _cut(self, fault: Fault) -> None:
        self._note(fault)
        self.stage.ways[fault.target, fault.server].cut(reset=fault.how == "reset")

    async def _poison(self, fault: Fault) -> None:
        self._note(fault)
        self.load.poison(fault.how)

    async def _skew(self, fault: Fault) -> None:
        self._note(fault)
        self.stage.skew(fault.target, fault.how)
        await self._end(fault.target)

    async def _hang_up_followers(self, fault: Fault) -> None:
        self._note(fault)
        self.followers.hang_up()

    async def _forget(self, fault: Fault) -> None:
        """Kill Redis and let it come back as it was a moment ago."""
        slot = await self._somebody("redis")
        if slot is None:
            return
        folder = slot.folder / slot.name
        first_ms = now_ms()
        kept = forgetting.remember(folder)
        await asyncio.sleep(fault.seconds)
        self._note(fault, pid=slot.pid)
        slot.before_start = lambda: forgetting.forget(folder, kept)
        slot.send(signal.SIGKILL, restart_after_seconds=0.2)
        self.forgotten.append(Window(first_ms, now_ms()))

    async def _produce(self, fault: Fault) -> None:
        self._note(fault, "broker")
        await self._try(self.meddler.produce(self.load.unheard()))

    async def _meddle(self, fault: Fault) -> None:
        lanes = self.load.books.lanes()
        chosen = self.meddler.dice.sample(lanes, min(_MEDDLED_LANES, len(lanes)))
        self._note(fault, "broker")
        await self._try(self.meddler.act(fault.kind, chosen))

    async def _try(self, act: Awaitable[None]) -> None:
        try:
            await act
        except Exception as error:  # noqa: BLE001 - the broker may be dead, in any of many ways
            self.stage.log.note("meddler_failed", "broker", repr(error)[:200])
