"""A thread with one agent on the session's real servers, and one worker's hands in reach."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from dispatch import ids
from dispatch.ids import DispatchId, ThreadId, WorkerId
from dispatch.payloads import llm
from dispatch.payloads.signals import Completed, Failed
from dispatch.stores.postgres import agents, engine
from dispatch.streams import runs
from dispatch.streams.lanes import LaneRef
from dispatch.streams.threads import Accepted
from tests.agents.doubles import Double
from tests.agents.model import Model
from tests.system.houses import Casa
from workers import turn
from workers.agents import registry
from workers.hands import TurnHands
from workers.heartbeat import Heartbeats
from workers.writer import RunWriter

WORKER = WorkerId("test.5.a")
LIMIT_SECONDS = 60.0


@dataclasses.dataclass
class Stage:
    casa: Casa
    thread_id: ThreadId
    double: Double
    model: Model
    heartbeats: Heartbeats

    @property
    def ref(self) -> LaneRef:
        return LaneRef(self.thread_id, self.casa.agent.id)

    async def post(self, text: str, **more: Any) -> Accepted:
        return await self.casa.post(self.thread_id, self.double.order(text, self.model), **more)

    async def work(self) -> None:
        """Run what waits, as a worker would; again when the record says: later."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                await turn.run_lane(self.casa.record, self.heartbeats, self.ref)
                state = await self.casa.state(self.thread_id)
                if not state.dispatches:
                    return
                await asyncio.sleep(0.02)

    async def say(self, text: str) -> None:
        """Post an entry and run its turn to its end."""
        await self.post(text)
        await self.work()

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Task[None]]:
        """Run what waits beside the block."""
        task = asyncio.create_task(self.work())
        try:
            yield task
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def die_in(self, until: asyncio.Event) -> None:
        """Take the waiting turn up to a moment, then be gone without a word."""
        await self._end_in(until)
        await asyncio.sleep(0.25)

    async def leave_in(self, until: asyncio.Event) -> None:
        """Take the waiting turn up to a moment, then give it back, as a drained worker does."""
        writer = await self._end_in(until)
        assert await writer.release() == "released"

    async def _end_in(self, until: asyncio.Event) -> RunWriter:
        claimed = await runs.claim(
            self.casa.record.scripts,
            self.thread_id,
            self.casa.agent.id,
            run_id=ids.new_run_id(),
            worker_id=WORKER,
            lease_seconds=0.2,
        )
        assert isinstance(claimed, runs.Claimed)
        writer = RunWriter(
            self.casa.record.scripts,
            self.casa.record.connection,
            fence=claimed.fence,
            started_id=claimed.started_id,
            worker_id=WORKER,
            settings=self.casa.record.settings,
        )
        request, handles = await turn._request(self.casa.record, claimed, turn._entry(claimed))
        hands = TurnHands(self.casa.record, writer, request, handles)
        run = asyncio.ensure_future(registry.find(self.double.runner)(request, hands))
        reached = asyncio.create_task(until.wait())
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.wait({run, reached}, return_when=asyncio.FIRST_COMPLETED)
        assert not run.done(), run.result()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return writer

    async def of(self, kind: type) -> list[Any]:
        found = [entry.payload for entry in await self.casa.entries(self.thread_id)]
        return [payload for payload in found if isinstance(payload, kind)]

    async def answers(self) -> list[str]:
        """The texts of the agent's finished messages."""
        return [
            part["text"]
            for each in await self.of(llm.Assistant)
            if each.message["stopReason"] != "error"
            for part in each.message["content"]
            if part["type"] == "text"
        ]

    async def ending(self) -> Completed | Failed:
        endings = [*await self.of(Completed), *await self.of(Failed)]
        assert len(endings) == 1, await self.casa.types(self.thread_id)
        return endings[0]

    async def renew(self) -> None:
        """Let each run hear at once what its record has to say."""
        for writer in list(self.heartbeats._writers):
            with contextlib.suppress(Exception):
                await writer.renew()

    async def is_running(self) -> DispatchId:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                state = await self.casa.state(self.thread_id)
                for dispatch_id, dispatch in state.dispatches.items():
                    if dispatch.attempt > 0 and self.heartbeats.run_count:
                        return DispatchId(dispatch_id)
                await asyncio.sleep(0.02)


async def a_stage(casa: Casa, double: Double, model: Model) -> Stage:
    config = {"maxAttempts": 1, "retryBackoffSeconds": 0.001, **double.config}
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        agent = await agents.insert(
            connection,
            house_id=casa.who.house_id,
            handle="tested",
            runner=double.runner,
            config=config,
        )
    casa = dataclasses.replace(casa, agent=agent)
    beats = Heartbeats(casa.record.connection, worker_id=WORKER, settings=casa.record.settings)
    return Stage(casa, await casa.dm(), double, model, beats)
