"""Rows of sandboxes. Workers make and end them; members only look."""

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import NotFound
from dispatch.ids import EnvironmentId, HouseId, SandboxId
from dispatch.models.houses import Sandbox, SandboxStatus
from dispatch.stores.postgres import refusals, rows
from dispatch.stores.postgres.tables import sandboxes


async def insert(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    environment_id: EnvironmentId | None,
    status: SandboxStatus = "starting",
) -> Sandbox:
    """Add a sandbox; a worker's right.

    Raises: NotFound when the environment is not of this house.
    """
    statement = sa.insert(sandboxes).values(
        id=ids.uuid7(), house_id=house_id, environment_id=environment_id, status=status
    )
    try:
        row = (await conn.execute(statement.returning(*sandboxes.c))).mappings().one()
    except exc.IntegrityError as error:
        raise refusals.missing(
            error, sandboxes_environment_fkey=("environment", environment_id)
        ) from error
    return rows.sandbox(row)


async def get(conn: AsyncConnection, *, sandbox_id: SandboxId) -> Sandbox:
    """Return the sandbox.

    Raises: NotFound, for a member also one of another house.
    """
    statement = sa.select(sandboxes).where(sandboxes.c.id == sandbox_id)
    row = (await conn.execute(statement)).mappings().first()
    if row is None:
        raise NotFound("sandbox", str(sandbox_id))
    return rows.sandbox(row)


async def update(
    conn: AsyncConnection, *, sandbox_id: SandboxId, status: SandboxStatus
) -> Sandbox:
    """Note what became of the sandbox; a worker's right.

    Raises: NotFound.
    """
    statement = sa.update(sandboxes).where(sandboxes.c.id == sandbox_id).values(status=status)
    row = (await conn.execute(statement.returning(*sandboxes.c))).mappings().first()
    if row is None:
        raise NotFound("sandbox", str(sandbox_id))
    return rows.sandbox(row)
