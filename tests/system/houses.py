"""A house to post in, and eyes on what comes of it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dispatch import payloads
from dispatch.config import Settings
from dispatch.ids import ThreadId
from dispatch.models import state as states
from dispatch.models.houses import Agent, Caller, WhenBusy
from dispatch.models.state import ThreadState
from dispatch.models.threads import Thread
from dispatch.operations import authorize, post_entry
from dispatch.operations.record import Record, open_record
from dispatch.stores.postgres import agents, engine, houses, threads
from dispatch.streams import entries
from dispatch.streams.entries import Entry
from dispatch.streams.threads import Accepted


@dataclass
class Casa:
    """One house with a `demo` agent."""

    record: Record
    who: Caller
    agent: Agent
    token: str

    async def dm(self) -> ThreadId:
        """Make a new direct thread with the agent."""
        async with engine.as_member(self.record.members, self.who.member_id) as connection:
            new = threads.NewThread(house_id=self.who.house_id, parent_agent_id=self.agent.id)
            return (await threads.insert(connection, new=new)).id

    async def post(
        self,
        thread_id: ThreadId,
        text: str,
        *,
        key: str = "",
        when_busy: WhenBusy | None = None,
    ) -> Accepted:
        """Post an entry as the owner."""
        draft = post_entry.Draft(text, when_busy=when_busy)
        return await post_entry.post_entry(
            self.record, self.who, thread_id, draft, key=key or secrets.token_hex(8)
        )

    async def row(self, thread_id: ThreadId) -> Thread:
        """Read the row as a member does, without repairing it."""
        async with engine.as_member(self.record.members, self.who.member_id) as connection:
            return await threads.get(connection, thread_id=thread_id)

    async def state(self, thread_id: ThreadId) -> ThreadState:
        """Read the state beside the stream."""
        return states.from_fields(await entries.state_fields(self.record.connection, thread_id))

    async def entries(self, thread_id: ThreadId) -> list[Entry]:
        """Read the whole stream."""
        return await entries.page(self.record.connection, thread_id, limit=10_000)

    async def types(self, thread_id: ThreadId) -> list[str]:
        """Read the types of the durable entries."""
        found = await self.entries(thread_id)
        return [payloads.type_of(each.payload) for each in found if each.seq is not None]

    async def wait(
        self,
        thread_id: ThreadId,
        holds: Callable[[list[str]], bool],
        *,
        timeout_seconds: float = 60.0,
    ) -> list[str]:
        """Look at the durable types until they fit; fail when they do not in time."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            types = await self.types(thread_id)
            if holds(types):
                return types
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_seconds:g} s: {types}")
            await asyncio.sleep(0.05)

    async def wait_words(self, thread_id: ThreadId, *, timeout_seconds: float = 60.0) -> None:
        """Look until the agent has said something that followers see."""
        deadline = time.monotonic() + timeout_seconds
        while not any(b"pi.chunk" in each.raw for each in await self.entries(thread_id)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not a word within {timeout_seconds:g} s")
            await asyncio.sleep(0.02)

    async def wait_status(
        self, thread_id: ThreadId, status: str, *, timeout_seconds: float = 60.0
    ) -> Thread:
        """Look at the row until it says so."""
        deadline = time.monotonic() + timeout_seconds
        while (row := await self.row(thread_id)).status != status:
            if time.monotonic() > deadline:
                raise AssertionError(f"still {row.status} after {timeout_seconds:g} s")
            await asyncio.sleep(0.05)
        return row


@asynccontextmanager
async def found_casa(settings: Settings) -> AsyncIterator[Casa]:
    """Found a house of our own in the system."""
    token = "arbe_owner_" + secrets.token_hex(22)
    async with open_record(settings) as record:
        async with engine.as_nobody(record.members) as connection:
            await houses.create(
                connection,
                name="Casa",
                owner_name="Ada",
                token_name="test",
                digest=authorize.digest(token),
            )
        who = await authorize.caller(record, token)
        async with engine.as_member(record.members, who.member_id) as connection:
            agent = await agents.insert(
                connection, house_id=who.house_id, handle="demo", runner="demo"
            )
        yield Casa(record, who, agent, token)
