"""Long outputs of commands, in parts. Workers write them, members read them."""

import uuid

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import ThreadId
from dispatch.stores.postgres.tables import command_outputs, threads


async def insert(
    conn: AsyncConnection, *, thread_id: ThreadId, ref: uuid.UUID, part: int, data: bytes
) -> bool:
    """Add a part; False if the thread is gone. A worker's right.

    Args: part: counts from 0. data: compressed, whole in itself.
    """
    row = sa.select(
        threads.c.id,
        sa.literal(ref, sa.Uuid()),
        sa.literal(part, sa.Integer()),
        threads.c.house_id,
        sa.literal(data, sa.LargeBinary()),
    ).where(threads.c.id == thread_id)
    names = ("thread_id", "ref", "part", "house_id", "data")
    statement = sa.insert(command_outputs).from_select(names, row)
    return (await conn.execute(statement.returning(command_outputs.c.part))).first() is not None


async def find_part(
    conn: AsyncConnection, *, thread_id: ThreadId, ref: uuid.UUID, part: int
) -> bytes | None:
    """Return a part, None if there is none for this caller."""
    statement = sa.select(command_outputs.c.data).where(
        command_outputs.c.thread_id == thread_id,
        command_outputs.c.ref == ref,
        command_outputs.c.part == part,
    )
    return (await conn.execute(statement)).scalar()


async def delete_old(conn: AsyncConnection, *, older_than_seconds: float, limit: int) -> int:
    """Forget a batch of parts of that age, and tell how many; a worker's right."""
    age = sa.func.make_interval(0, 0, 0, 0, 0, 0, older_than_seconds)
    key = sa.tuple_(command_outputs.c.thread_id, command_outputs.c.ref, command_outputs.c.part)
    old = (
        sa.select(command_outputs.c.thread_id, command_outputs.c.ref, command_outputs.c.part)
        .where(command_outputs.c.at < sa.func.now() - age)
        .order_by(command_outputs.c.at)
        .limit(limit)
    )
    return (await conn.execute(sa.delete(command_outputs).where(key.in_(old)))).rowcount
