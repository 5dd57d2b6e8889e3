"""Rows of agents, and of what single threads override about them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids, task_names
from dispatch.errors import NotFound
from dispatch.ids import AgentId, HouseId, ThreadId
from dispatch.models.houses import Agent, TriggerMode
from dispatch.stores.postgres import refusals, rows
from dispatch.stores.postgres.tables import agents, thread_agents


async def insert(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    handle: str,
    runner: str,
    model: str | None = None,
    config: dict[str, Any] | None = None,
    trigger_mode: TriggerMode = "mention",
    agent_id: AgentId | None = None,
) -> Agent:
    """Add an agent to the house.

    Args: agent_id: reserved before; None: chosen now.
    Raises: Conflict (`handle_taken`).
    """
    statement = sa.insert(agents).values(
        id=agent_id or ids.uuid7(),
        house_id=house_id,
        handle=handle,
        runner=runner,
        model=model,
        config=config or {},
        trigger_mode=trigger_mode,
    )
    try:
        row = (await conn.execute(statement.returning(*agents.c))).mappings().one()
    except exc.IntegrityError as error:
        raise refusals.broken_rule(error) from error
    return rows.agent(row)


async def get(conn: AsyncConnection, *, agent_id: AgentId) -> Agent:
    """Return the agent.

    Raises: NotFound, also for an agent of another house.
    """
    found = await find(conn, agent_id=agent_id)
    if found is None:
        raise NotFound("agent", str(agent_id))
    return found


async def find(conn: AsyncConnection, *, agent_id: AgentId) -> Agent | None:
    """Return the agent, or None if it is not there for this caller."""
    row = (
        (await conn.execute(sa.select(agents).where(agents.c.id == agent_id)))
        .mappings()
        .first()
    )
    return None if row is None else rows.agent(row)


async def find_by_handle(
    conn: AsyncConnection, *, house_id: HouseId, handle: str
) -> Agent | None:
    """Return the house's agent with this handle, without its `@`, or None."""
    statement = sa.select(agents).where(
        agents.c.house_id == house_id, agents.c.handle == handle
    )
    row = (await conn.execute(statement)).mappings().first()
    return None if row is None else rows.agent(row)


async def list(
    conn: AsyncConnection, *, house_id: HouseId, before: AgentId | None = None, limit: int
) -> tuple[Agent, ...]:
    """Return one page of the house's agents, newest first, older than `before`."""
    statement = sa.select(agents).where(agents.c.house_id == house_id)
    if before is not None:
        statement = statement.where(agents.c.id < before)
    found = await conn.execute(statement.order_by(agents.c.id.desc()).limit(limit))
    return tuple(rows.agent(row) for row in found.mappings())


async def queues(conn: AsyncConnection, agent_ids: Sequence[AgentId]) -> dict[AgentId, str]:
    """Tell on which queue each agent's hints go; agents that are gone are left out."""
    statement = sa.select(agents.c.id, agents.c.config).where(agents.c.id.in_(agent_ids))
    found = (await conn.execute(statement)).mappings()
    return {row["id"]: queue_of(row["config"]) for row in found}


def queue_of(config: dict[str, Any]) -> str:
    """Read the queue from an agent's config; anything but a name means the common queue."""
    queue = config.get("queue")
    return queue if isinstance(queue, str) and queue else task_names.TURNS_QUEUE


async def handles(conn: AsyncConnection, *, house_id: HouseId) -> dict[str, str]:
    """Return the handle of every agent of a house, by id as text."""
    statement = sa.select(agents.c.id, agents.c.handle).where(agents.c.house_id == house_id)
    return {str(row.id): row.handle for row in (await conn.execute(statement)).all()}


async def update(
    conn: AsyncConnection,
    *,
    agent_id: AgentId,
    handle: str | UnsetType = UNSET,
    runner: str | UnsetType = UNSET,
    model: str | UnsetType | None = UNSET,
    config: dict[str, Any] | UnsetType = UNSET,
    trigger_mode: TriggerMode | UnsetType = UNSET,
) -> Agent:
    """Change what is given; `config` is replaced whole.

    Raises: NotFound; Conflict (`handle_taken`).
    """
    values = rows.given(
        handle=handle, runner=runner, model=model, config=config, trigger_mode=trigger_mode
    )
    if not values:
        return await get(conn, agent_id=agent_id)
    statement = sa.update(agents).where(agents.c.id == agent_id).values(values)
    try:
        row = (await conn.execute(statement.returning(*agents.c))).mappings().first()
    except exc.IntegrityError as error:
        raise refusals.broken_rule(error) from error
    if row is None:
        raise NotFound("agent", str(agent_id))
    return rows.agent(row)


async def delete(conn: AsyncConnection, *, agent_id: AgentId) -> None:
    """Remove the agent and what threads override about it.

    Raises: NotFound, also when repeated; Conflict (`agent_in_use`) while it has direct threads.
    """
    try:
        done = await conn.execute(sa.delete(agents).where(agents.c.id == agent_id))
    except exc.IntegrityError as error:
        raise refusals.broken_rule(error) from error
    if done.rowcount == 0:
        raise NotFound("agent", str(agent_id))


async def set_override(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    thread_id: ThreadId,
    agent_id: AgentId,
    trigger_mode: TriggerMode,
) -> None:
    """Let one thread wake this agent otherwise than the house does; the last call wins.

    Raises: NotFound when thread or agent are not of this house.
    """
    statement = upsert(thread_agents).values(
        house_id=house_id, thread_id=thread_id, agent_id=agent_id, trigger_mode=trigger_mode
    )
    try:
        await conn.execute(
            statement.on_conflict_do_update(
                index_elements=["thread_id", "agent_id"],
                set_={"trigger_mode": statement.excluded.trigger_mode},
            )
        )
    except exc.IntegrityError as error:
        raise refusals.missing(
            error,
            thread_agents_thread_fkey=("thread", thread_id),
            thread_agents_agent_fkey=("agent", agent_id),
        ) from error


async def delete_override(
    conn: AsyncConnection, *, thread_id: ThreadId, agent_id: AgentId
) -> None:
    """Let the house's trigger mode hold in this thread again; repeating changes nothing."""
    await conn.execute(
        sa.delete(thread_agents).where(
            thread_agents.c.thread_id == thread_id, thread_agents.c.agent_id == agent_id
        )
    )
