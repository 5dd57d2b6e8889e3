"""Real servers, one house, and threads made beforehand: what all plays of a campaign share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import psycopg
from fastapi import FastAPI
from pydantic import SecretStr

from dispatch.api.app import create_app
from dispatch.config import Settings
from dispatch.ids import ThreadId, new_run_id, uuid7
from dispatch.models.houses import Agent, Caller
from dispatch.operations import authorize
from dispatch.operations.record import Record
from dispatch.stores.postgres import agents, engine, houses
from dispatch.stores.postgres.migrations import runner
from tests.crashes import agent as scripted
from tests.crashes.doors import Doors
from tests.stores.factories import address
from workers.agents import registry

_THREADS_AT_ONCE: Final = 50
_AGENTS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("one", {}),
    ("two", {"maxAttempts": 2, "maxAgentHops": 0}),
    (
        "three",
        {"repeatable": True, "permissions": {"act": "ask"}, "tools": ["delegate_task"]},
    ),
)
_MAKE_THREADS: Final = (
    """insert into threads (id, house_id, parent_agent_id, status)
    select id, %(house)s, %(agent)s, 'open' from unnest(%(ids)s::uuid[]) id""",
    """insert into thread_agents (house_id, thread_id, agent_id, trigger_mode)
    select %(house)s, id, %(agent)s, 'always' from unnest(%(ids)s::uuid[]) id""",
)
_WAITING: Final = {
    "cancellations": "select exists (select from cancellations where done_at is null)",
    "prune": "select exists (select from threads where status = 'running')"
    " or exists (select from deletions where done_at is null)",
    "expire": "select exists (select from threads"
    " where expires_at <= now() and status <> 'running')",
}
_HELD: Final = (
    ("cancellations", "due_at", "done_at is null"),
    ("idempotency", "claimed_until", "status is null"),
)
"""Rows with times of Postgres's clock in them: table, column, which of them."""


@dataclass
class World:
    """One database, one Redis, and the doors before them. One play at a time."""

    settings: Settings
    doors: Doors
    admin: psycopg.AsyncConnection
    who: Caller
    token: str
    agents: list[Agent]
    app: FastAPI
    """The API, for whichever record its state holds."""
    record: Record
    """For setting the stage; its steps are nobody's."""
    _threads: list[ThreadId] = field(default_factory=list)

    async def thread(self) -> ThreadId:
        """Return a fresh direct thread with the first agent; its row only."""
        if not self._threads:
            self._threads = await self._make_threads()
        return self._threads.pop()

    async def _make_threads(self) -> list[ThreadId]:
        """Make many at once: `threads.insert` for each would take longer than their plays."""
        made = [ThreadId(uuid7()) for _ in range(_THREADS_AT_ONCE)]
        named = {"ids": made, "house": self.who.house_id, "agent": self.agents[0].id}
        for statement in _MAKE_THREADS:
            await self.admin.execute(statement, named)
        return made

    async def clear(self) -> None:
        """Empty Redis and the broker."""
        await self.doors.wire.call("FLUSHDB")
        self.doors.broker.hints.clear()

    async def forget_direct(self, agent: Agent) -> None:
        """Let nobody have talked to an agent directly."""
        await self.admin.execute("delete from threads where parent_agent_id = %s", [agent.id])
        await self.admin.execute("delete from deletions")

    async def waits_for(self, sweep: str) -> bool:
        """Tell whether a sweep that looks at rows would find any."""
        found = await self.admin.execute(_WAITING[sweep])
        return await found.fetchone() == (True,)

    async def age(self, seconds: float) -> None:
        """Let Postgres's clock have gone on, for who holds a cancel or a keyed call."""
        for table, column, where in _HELD:
            await self.admin.execute(
                f"update {table} set {column} = {column} - make_interval(secs => %s)"  # noqa: S608
                f" where {where}",
                [seconds],
            )

    async def forget(self) -> None:
        """Leave no row of a broken play behind that a sweep of the next would find."""
        await self.admin.execute("update threads set status = 'open' where status = 'running'")
        await self.admin.execute("update threads set expires_at = null")
        await self.admin.execute("update cancellations set done_at = now()")
        await self.admin.execute("update deletions set done_at = now() where done_at is null")


@asynccontextmanager
async def open_world(
    postgres_url: str, stream_url: str, *, database: str
) -> AsyncIterator[World]:
    """Make a database of our own on that server, and a house in it."""
    settings = _settings(await _database(postgres_url, database), stream_url)
    doors = Doors(settings)
    url = settings.database_url.get_secret_value()
    runners = mock.patch.object(registry, "BUILT_IN", {scripted.NAME: scripted.__name__})
    admin = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with admin:
        with doors.open(), runners:
            try:
                yield await _furnish(settings, doors, admin)
            finally:
                await doors.close()


async def _database(postgres_url: str, name: str) -> str:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute(f"drop database if exists {name}")
        await admin.execute(f"create database {name}")
    url = address(postgres_url, database=name)
    await asyncio.to_thread(runner.upgrade, url)
    return url


def _settings(database_url: str, stream_url: str) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        stream_url=SecretStr(stream_url),
        chunk_seconds=0.0,
        drain_seconds=0.0,
        permission_grace_seconds=0.0,
        delegation_seconds=600.0,
        archive_segment_entries=4,
        log_level="ERROR",
    )


async def _furnish(settings: Settings, doors: Doors, admin: psycopg.AsyncConnection) -> World:
    record = Record(settings)
    await doors.load_scripts()
    token = f"arbe_owner_{new_run_id()}"
    async with engine.as_nobody(record.members) as connection:
        founded = await houses.create(
            connection,
            name="Casa",
            owner_name="Ada",
            token_name="t",
            digest=authorize.digest(token),
        )
    member, house_id = founded.owner, founded.house.id
    async with engine.as_member(record.members, member.id) as connection:
        made = [
            await agents.insert(
                connection,
                house_id=house_id,
                handle=handle,
                runner=scripted.NAME,
                config=config,
            )
            for handle, config in _AGENTS
        ]
    who = Caller(member_id=member.id, house_id=house_id, role=member.role, name=member.name)
    return World(settings, doors, admin, who, token, made, create_app(settings), record)
