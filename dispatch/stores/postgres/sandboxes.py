"""Rows of sandboxes. Workers make and end them; members only look."""

import uuid
from collections.abc import Collection
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import NotFound
from dispatch.ids import EnvironmentId, HouseId, SandboxId
from dispatch.models.houses import Sandbox, SandboxStatus
from dispatch.stores.postgres import refusals, rows
from dispatch.stores.postgres.tables import sandboxes, threads

_MAX_CAUSE: Final = 2000
"""Characters; a check of the table too."""


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
    conn: AsyncConnection,
    *,
    sandbox_id: SandboxId,
    status: SandboxStatus,
    cause: str | None = None,
) -> Sandbox:
    """Note what became of the sandbox, and why; a worker's right.

    Raises: NotFound.
    """
    statement = (
        sa.update(sandboxes)
        .where(sandboxes.c.id == sandbox_id)
        .values(status=status, cause=cause[:_MAX_CAUSE] if cause else None)
    )
    row = (await conn.execute(statement.returning(*sandboxes.c))).mappings().first()
    if row is None:
        raise NotFound("sandbox", str(sandbox_id))
    return rows.sandbox(row)


async def hold(conn: AsyncConnection, *, sandbox_id: SandboxId, seconds: float) -> bool:
    """Keep a ready sandbox from being removed for so long; False if it is not ready (any more).

    Promise: one statement on the row that a release changes too, so one of them comes first;
    holds of commands side by side add up to the longest. A worker's right.
    """
    done = await conn.execute(
        sa.update(sandboxes)
        .where(sandboxes.c.id == sandbox_id, sandboxes.c.status == "ready")
        .values(
            used_until=sa.func.greatest(
                sandboxes.c.used_until, sa.func.now() + _interval(seconds)
            )
        )
    )
    return done.rowcount == 1


async def release_idle(
    conn: AsyncConnection, *, idle_seconds: float, limit: int
) -> tuple[SandboxId, ...]:
    """Release a batch of sandboxes that were not in use that long; a worker's right.

    Promise: none that a running thread points at; one that another sweep holds is skipped. A
    sandbox still `starting` after that time was given up by whoever made it.
    """
    busy = sa.exists().where(
        threads.c.sandbox_id == sandboxes.c.id, threads.c.status == "running"
    )
    idle = (
        sa.select(sandboxes.c.id)
        .where(
            sandboxes.c.status.in_(("starting", "ready")),
            sandboxes.c.used_until < sa.func.now() - _interval(idle_seconds),
            ~busy,
        )
        .order_by(sandboxes.c.used_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    done = await conn.execute(
        sa.update(sandboxes)
        .where(sandboxes.c.id.in_(idle))
        .values(status="released", cause="idle")
        .returning(sandboxes.c.id)
    )
    return tuple(SandboxId(each) for each in done.scalars())


async def list_over(
    conn: AsyncConnection, *, sandbox_ids: Collection[uuid.UUID]
) -> frozenset[uuid.UUID]:
    """Return those that are dead or released and in which no command can run any more."""
    statement = sa.select(sandboxes.c.id).where(
        sandboxes.c.id.in_(sandbox_ids),
        sandboxes.c.status.in_(("dead", "released")),
        sandboxes.c.used_until < sa.func.now(),
    )
    return frozenset((await conn.execute(statement)).scalars())


def _interval(seconds: float) -> sa.ColumnElement[object]:
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
