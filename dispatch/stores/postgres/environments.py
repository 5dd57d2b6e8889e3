"""Rows of environments: recipes for sandboxes."""

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import NotFound
from dispatch.ids import EnvironmentId, HouseId
from dispatch.models.houses import Environment
from dispatch.stores.postgres import refusals, rows
from dispatch.stores.postgres.tables import environments


async def insert(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    name: str,
    provider: str,
    config: dict[str, Any] | None = None,
    environment_id: EnvironmentId | None = None,
) -> Environment:
    """Add an environment to the house.

    Args: environment_id: reserved before; None: chosen now.
    """
    statement = sa.insert(environments).values(
        id=environment_id or ids.uuid7(),
        house_id=house_id,
        name=name,
        provider=provider,
        config=config or {},
    )
    row = (await conn.execute(statement.returning(*environments.c))).mappings().one()
    return rows.environment(row)


async def get(conn: AsyncConnection, *, environment_id: EnvironmentId) -> Environment:
    """Return the environment.

    Raises: NotFound, also for one of another house.
    """
    found = await find(conn, environment_id=environment_id)
    if found is None:
        raise NotFound("environment", str(environment_id))
    return found


async def find(conn: AsyncConnection, *, environment_id: EnvironmentId) -> Environment | None:
    """Return the environment, or None if it is not there for this caller."""
    statement = sa.select(environments).where(environments.c.id == environment_id)
    row = (await conn.execute(statement)).mappings().first()
    return None if row is None else rows.environment(row)


async def list(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    before: EnvironmentId | None = None,
    limit: int,
) -> tuple[Environment, ...]:
    """Return one page of the house's environments, newest first, older than `before`."""
    statement = sa.select(environments).where(environments.c.house_id == house_id)
    if before is not None:
        statement = statement.where(environments.c.id < before)
    found = await conn.execute(statement.order_by(environments.c.id.desc()).limit(limit))
    return tuple(rows.environment(row) for row in found.mappings())


async def update(
    conn: AsyncConnection,
    *,
    environment_id: EnvironmentId,
    name: str | UnsetType = UNSET,
    provider: str | UnsetType = UNSET,
    config: dict[str, Any] | UnsetType = UNSET,
) -> Environment:
    """Change what is given; `config` is replaced whole. Sandboxes already made stay.

    Raises: NotFound.
    """
    values = rows.given(name=name, provider=provider, config=config)
    if not values:
        return await get(conn, environment_id=environment_id)
    statement = (
        sa.update(environments).where(environments.c.id == environment_id).values(values)
    )
    row = (await conn.execute(statement.returning(*environments.c))).mappings().first()
    if row is None:
        raise NotFound("environment", str(environment_id))
    return rows.environment(row)


async def delete(conn: AsyncConnection, *, environment_id: EnvironmentId) -> None:
    """Remove the environment; its sandboxes lose their recipe and live on.

    Raises: NotFound, also when repeated; Conflict (`environment_in_use`) while threads are
    bound to it: they must not turn local behind their members' backs.
    """
    statement = sa.delete(environments).where(environments.c.id == environment_id)
    try:
        done = await conn.execute(statement)
    except exc.IntegrityError as error:
        raise refusals.broken_rule(error) from error
    if done.rowcount == 0:
        raise NotFound("environment", str(environment_id))
