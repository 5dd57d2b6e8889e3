"""Rows a diagnosis looks at: those of a house that run or failed lately, and chosen ones.

Under a member's identity: row level security decides what may be seen.
"""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import HouseId, ThreadId
from dispatch.models.threads import Thread
from dispatch.stores.postgres import rows
from dispatch.stores.postgres import thread_statements as statements
from dispatch.stores.postgres.tables import threads


async def list_running(
    conn: AsyncConnection, *, house_id: HouseId, limit: int
) -> tuple[Thread, ...]:
    """Return rows of the house that say `running`, those made first."""
    found = await conn.execute(statements.running(house_id).limit(limit))
    return tuple(rows.thread(row) for row in found.mappings())


async def list_failed(
    conn: AsyncConnection, *, house_id: HouseId, within_seconds: float, limit: int
) -> tuple[Thread, ...]:
    """Return rows of the house that say `failed` since then, those changed last first."""
    found = await conn.execute(
        statements.failed_lately(house_id, within_seconds=within_seconds).limit(limit)
    )
    return tuple(rows.thread(row) for row in found.mappings())


async def list_chosen(
    conn: AsyncConnection, *, thread_ids: Collection[ThreadId]
) -> tuple[Thread, ...]:
    """Return those of the rows that the caller sees."""
    found = await conn.execute(sa.select(threads).where(threads.c.id.in_(thread_ids)))
    return tuple(rows.thread(row) for row in found.mappings())
