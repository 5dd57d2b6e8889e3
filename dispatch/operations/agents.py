"""Agents: the bots of a house. Any member may add, change and remove them."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from dispatch.ids import AgentId
from dispatch.models import claims, hops, policies, tools
from dispatch.models.claims import NewId
from dispatch.models.houses import Agent, Caller, TriggerMode
from dispatch.models.pages import Page
from dispatch.operations import labels, narrate, paging
from dispatch.operations.record import Record
from dispatch.payloads.signals import HouseAgentCreated, HouseAgentDeleted
from dispatch.stores.postgres import agents as stored
from dispatch.stores.postgres import engine, houses, idempotency


class AgentChange(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays as it is. `config` is replaced whole."""

    handle: str | UnsetType = UNSET
    runner: str | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    config: dict[str, Any] | UnsetType = UNSET
    trigger_mode: TriggerMode | UnsetType = UNSET


async def create(
    record: Record,
    who: Caller,
    *,
    handle: str,
    runner: str,
    model: str | None = None,
    config: dict[str, Any] | None = None,
    trigger_mode: TriggerMode = "mention",
    new: NewId | None = None,
) -> Agent:
    """Add a bot; `signal.house.agent_created` says so on the house's primary thread.

    Promise: threads of this process hear of it at once, those of others within
    `authorization_cache_seconds`. Whether a worker knows the runner is seen at its first turn.
    Raises: Invalid (handle, keys of the config), Conflict (`handle_taken`).
    """
    bare = labels.handle(handle)
    runs_on = labels.name(runner, record.settings, what="runner")
    labels.free_json(config, what="config")
    policies.check(config or {})
    hops.check(config or {})
    tools.check(config or {})
    await narrate.ready(record)
    new = new or claims.fresh()
    agent_id = AgentId(new.id)
    async with engine.as_member(record.members, who.member_id) as connection:
        await idempotency.hold(connection, new=new)
        made = await stored.find(connection, agent_id=agent_id) if new.may_exist else None
        if made is not None:
            record.forget()
            return made
        house = await houses.get(connection, house_id=who.house_id)
        agent = await stored.insert(
            connection,
            house_id=who.house_id,
            handle=bare,
            runner=runs_on,
            model=model,
            config=config,
            trigger_mode=trigger_mode,
            agent_id=agent_id,
        )
    record.forget()
    told = HouseAgentCreated(agent_id=str(agent.id), handle=agent.handle)
    await narrate.tell(record, house.primary_thread_id, told)
    return agent


async def get(record: Record, who: Caller, agent_id: AgentId) -> Agent:
    """Return one bot.

    Raises: NotFound.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        return await stored.get(connection, agent_id=agent_id)


async def list_agents(
    record: Record, who: Caller, *, cursor: str | None, limit: int | None
) -> Page[Agent]:
    """Return one page of the house's bots, newest first."""
    size = paging.size(limit, record.settings)
    before = paging.place(cursor, AgentId)
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await stored.list(
            connection, house_id=who.house_id, before=before, limit=size + 1
        )
    return paging.page(found, size)


async def update(record: Record, who: Caller, agent_id: AgentId, change: AgentChange) -> Agent:
    """Change a bot; turns that were dispatched already run as they were born.

    Raises: NotFound, Invalid, Conflict (`handle_taken`).
    """
    handle, runner = change.handle, change.runner
    if isinstance(handle, str):
        handle = labels.handle(handle)
    if isinstance(runner, str):
        runner = labels.name(runner, record.settings, what="runner")
    labels.free_json(change.config, what="config")
    if isinstance(change.config, dict):
        policies.check(change.config)
        hops.check(change.config)
        tools.check(change.config)
    async with engine.as_member(record.members, who.member_id) as connection:
        agent = await stored.update(
            connection,
            agent_id=agent_id,
            handle=handle,
            runner=runner,
            model=change.model,
            config=change.config,
            trigger_mode=change.trigger_mode,
        )
    record.forget()
    return agent


async def delete(record: Record, who: Caller, agent_id: AgentId) -> None:
    """Remove a bot; `signal.house.agent_deleted` says so on the house's primary thread.

    Raises: NotFound, also when repeated; Conflict (`agent_in_use`) while it has direct threads.
    """
    await narrate.ready(record)
    async with engine.as_member(record.members, who.member_id) as connection:
        house = await houses.get(connection, house_id=who.house_id)
        agent = await stored.get(connection, agent_id=agent_id)
        await stored.delete(connection, agent_id=agent_id)
    record.forget()
    told = HouseAgentDeleted(agent_id=str(agent.id), handle=agent.handle)
    await narrate.tell(record, house.primary_thread_id, told)
