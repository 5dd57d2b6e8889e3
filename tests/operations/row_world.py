"""What the machine of rows plays on: one house, its threads, and eyes behind the rights."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg
from redis import Redis

from dispatch.errors import NotFound
from dispatch.ids import EntryId, ThreadId, new_run_id
from dispatch.models.fold import step
from dispatch.models.state import ThreadState
from dispatch.models.status import thread_status
from dispatch.models.threads import NewThread
from dispatch.operations import delete_thread, open_stream
from dispatch.payloads.usage import UsageTotals
from dispatch.stores.postgres import engine, threads
from dispatch.streams import keys
from dispatch.streams.runs import Claimed
from tests.streams.forgetting import NOTHING, Backup
from tests.streams.scene import ASSISTANT, Read, Scene, new_lane
from tests.streams.simulated import CLOCK, Clock, Heard
from tests.system.houses import Casa

ROWS = "select id, status, usage, stream_id from threads where id = any(%s)"
WAITING = (
    "select 1 from pg_stat_activity"
    " where datname = current_database() and wait_event_type = 'Lock'"
)
DELETIONS = "select thread_id, done_at is not null from deletions where thread_id = any(%s)"


Said = tuple[str, UsageTotals]
"""Status and usage."""


class Row(msgspec.Struct, frozen=True):
    """What a row claims that its stream says at an entry."""

    said: Said
    stream_id: EntryId


@dataclass
class Known:
    """What the outside knows of one thread."""

    thread_id: ThreadId
    is_sub_job: bool
    is_deleted: bool = False
    newest: str = ""
    """The highest watermark its row was ever seen with."""
    said: dict[str, Said] = field(default_factory=dict)
    """What its stream said at each of its entries, also of those that were lost."""
    backup: Backup = NOTHING

    def __post_init__(self) -> None:
        self.said[""] = ("idle" if self.is_sub_job else "open", UsageTotals())

    def listen(self, stream: list[Read]) -> None:
        """Note what a stream says at each of its entries."""
        state = ThreadState()
        for entry in stream:
            state = step(state, entry)
            said = (thread_status(state, is_sub_job=self.is_sub_job), state.usage)
            assert self.said.setdefault(entry.id, said) == said, "an id never comes again"


class World:
    """A record on a database of its own, and a scene whose clock is the machine's."""

    def __init__(
        self,
        casa: Casa,
        looker: psycopg.Connection,
        redis: "Redis",
        mutant: tuple[str, str, str] | None,
    ) -> None:
        self.casa = casa
        self.record = record = casa.record
        self.looker = looker
        self.redis = redis
        self.lane = new_lane()
        record.scripts = Heard(
            record.connection, clock=CLOCK, mutant=mutant, revalidate=record.revalidate
        )
        self.scene = Scene(record.connection, record.scripts, redis, record.settings)

    async def insert(self, parent: ThreadId | None) -> ThreadId:
        who = self.casa.who
        async with engine.as_member(self.record.members, who.member_id) as connection:
            new = NewThread(house_id=who.house_id, parent_thread_id=parent)
            return (await threads.insert(connection, new=new)).id

    async def born_during_the_delete(self, parent: ThreadId) -> ThreadId:
        """Insert a child, let the delete of its parent wait for us, and commit then."""
        record, who = self.record, self.casa.who
        async with engine.as_member(record.members, who.member_id) as connection:
            new = NewThread(house_id=who.house_id, parent_thread_id=parent)
            child = await threads.insert(connection, new=new)
            delete = asyncio.ensure_future(delete_thread.delete_thread(record, who, parent))
            for _ in range(1_000):
                if self.somebody_waits() or delete.done():
                    break
                await asyncio.sleep(0.001)
        await delete
        return child.id

    async def happen(self, thread_id: ThreadId, word: str) -> None:
        """Let a stream go on by one step, if it can."""
        state = await self.scene.state(thread_id)
        lane = state.lanes.get(str(self.lane))
        match word:
            case "post":
                await self._post(thread_id, new_run_id())
            case "cancel" if lane and lane.has_work:
                waiting = lane.queue[0] if lane.queue else lane.run.dispatch_id
                await self.scene.cancel(thread_id, waiting)
            case "silent":
                self.scene.clock.advance(self.scene.settings.lease_seconds + 1)
                await self.scene.expire(thread_id, self.lane)
            case "run":
                await self._turn(thread_id)
            case "completed" | "failed":
                while await self._turn(thread_id, outcome=word):
                    pass

    async def _post(self, thread_id: ThreadId, key: str) -> None:
        """Accept an entry as `post_entry` does: whoever finds no stream opens one."""
        try:
            await self.scene.accept(thread_id, self.lane, key=key)
        except NotFound:
            await open_stream.open_stream(self.record, thread_id)
            await self.scene.accept(thread_id, self.lane, key=key)

    async def _turn(self, thread_id: ThreadId, *, outcome: str = "") -> bool:
        """Take what is first in the lane, and end it so; tell whether there was anything."""
        claimed = await self.scene.claim(thread_id, self.lane)
        if not isinstance(claimed, Claimed):
            return False
        await self.scene.append(claimed.fence, 1, ASSISTANT)
        if outcome:
            await self.scene.finish(claimed.fence, 2, outcome=outcome)
        return True

    def rows(self, thread_ids: list[ThreadId]) -> dict[ThreadId, Row]:
        found: list[Any] = self.looker.execute(ROWS, [thread_ids]).fetchall()
        return {
            ThreadId(thread_id): Row(
                (status, msgspec.convert(usage, UsageTotals)), EntryId(stream_id)
            )
            for thread_id, status, usage, stream_id in found
        }

    def deletions(self, thread_ids: list[ThreadId]) -> dict[ThreadId, bool]:
        """Return which deletions are noted, and whether they are said to be done."""
        found: list[Any] = self.looker.execute(DELETIONS, [thread_ids]).fetchall()
        return {ThreadId(thread_id): done for thread_id, done in found}

    def is_dirty(self, known: Known) -> bool:
        """Tell whether a sweep will bring the thread's row up."""
        return self.redis.zscore(keys.DIRTY, str(known.thread_id)) is not None

    def somebody_waits(self) -> bool:
        """Tell whether a transaction of our database waits for another."""
        return self.looker.execute(WAITING).fetchone() is not None

    def wipe(self, thread_ids: list[ThreadId]) -> None:
        """Leave nothing of some threads in either server, and set the clock back."""
        self.looker.execute("delete from threads where id = any(%s)", [thread_ids])
        self.looker.execute("delete from deletions")
        self.redis.flushdb()
        self.scene.clock = Clock(self.redis)
        self.scene.threads.clear()
