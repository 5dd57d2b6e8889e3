"""Makes a house with one row of everything in it."""

import hashlib
import secrets
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dispatch.models.houses import Agent, Environment, House, Member, Sandbox, Token
from dispatch.models.threads import NewThread, Thread
from dispatch.stores.postgres import (
    agents,
    engine,
    environments,
    houses,
    members,
    sandboxes,
    threads,
    tokens,
)


@dataclass(frozen=True)
class Home:
    api: AsyncEngine
    house: House
    owner: Member
    member: Member
    token: Token
    digest: str
    agent: Agent
    environment: Environment
    sandbox: Sandbox
    thread: Thread

    def as_owner(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return engine.as_member(self.api, self.owner.id)

    def as_member(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return engine.as_member(self.api, self.member.id)


def address(url: str, **parts: str) -> str:
    """Return the same server's address with another database or login."""
    return sa.make_url(url).set(**parts).render_as_string(hide_password=False)


def new_digest() -> str:
    return hashlib.sha256(secrets.token_bytes(32)).hexdigest()


async def found_home(api: AsyncEngine, worker: AsyncEngine) -> Home:
    digest = new_digest()
    async with engine.as_nobody(api) as conn:
        founded = await houses.create(
            conn, name="Casa", owner_name="Ada", token_name="first", digest=digest
        )
    house_id = founded.house.id
    async with engine.as_member(api, founded.owner.id) as conn:
        member = await members.insert(conn, house_id=house_id, name="Bo")
        await tokens.insert(
            conn, house_id=house_id, member_id=member.id, name="bo", digest=new_digest()
        )
        agent = await agents.insert(conn, house_id=house_id, handle="demo", runner="demo")
        environment = await environments.insert(
            conn, house_id=house_id, name="box", provider="local"
        )
        thread = await threads.insert(conn, new=NewThread(house_id=house_id, name="talk"))
    async with engine.as_worker(worker) as conn:
        sandbox = await sandboxes.insert(conn, house_id=house_id, environment_id=environment.id)
    return Home(
        api=api,
        house=founded.house,
        owner=founded.owner,
        member=member,
        token=founded.token,
        digest=digest,
        agent=agent,
        environment=environment,
        sandbox=sandbox,
        thread=thread,
    )
