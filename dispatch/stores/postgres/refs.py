"""Finds what a person typed: `@handle`, an id, or the beginning of an id, within one house.

UUIDv7 begins with the time of birth, so things made in the same minute share eight digits; a
short beginning is often ambiguous and is never guessed.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.errors import AmbiguousRef, Gone, NotFound
from dispatch.ids import HouseId
from dispatch.models import refs
from dispatch.models.refs import IdRange, Ref, RefKind
from dispatch.stores.postgres import agents, tables

_CANDIDATES: Final = 6
"""Rows read per kind; an error names five and more would only be counted."""
_SEARCHED: Final[dict[RefKind, tuple[sa.Column[Any], sa.Column[Any]]]] = {
    "thread": (tables.threads.c.id, tables.threads.c.house_id),
    "agent": (tables.agents.c.id, tables.agents.c.house_id),
    "house": (tables.houses.c.id, tables.houses.c.id),
    "environment": (tables.environments.c.id, tables.environments.c.house_id),
}


async def resolve(
    conn: AsyncConnection,
    *,
    house_id: HouseId,
    text: str,
    kinds: Sequence[RefKind] = refs.ALL_KINDS,
) -> Ref:
    """Tell what the text names among these kinds; the first kind that has it wins.

    Promise: one range scan per kind, of six rows at most.
    Raises: Invalid when it can be no reference, AmbiguousRef, Gone for a deleted thread,
    NotFound.
    """
    if text.startswith("@"):
        return await _by_handle(conn, house_id=house_id, text=text, kinds=kinds)
    wanted = refs.id_range(text)
    hits = await _in_range(conn, house_id=house_id, wanted=wanted, kinds=kinds)
    for kind in refs.ALL_KINDS:
        of_kind = [hit for hit in hits if hit.kind == kind]
        if len(of_kind) > 1:
            raise AmbiguousRef(kind, text, [str(hit.id) for hit in of_kind])
        if of_kind:
            return of_kind[0]
    if "thread" in kinds:
        await _refuse_deleted(conn, house_id=house_id, wanted=wanted)
    raise NotFound(kinds[0] if len(kinds) == 1 else "thread", text)


async def _by_handle(
    conn: AsyncConnection, *, house_id: HouseId, text: str, kinds: Sequence[RefKind]
) -> Ref:
    handle = text.removeprefix("@").lower()
    found = None
    if "agent" in kinds:
        found = await agents.find_by_handle(conn, house_id=house_id, handle=handle)
    if found is None:
        raise NotFound("agent" if "agent" in kinds else kinds[0], text)
    return Ref(kind="agent", id=found.id)


async def _in_range(
    conn: AsyncConnection, *, house_id: HouseId, wanted: IdRange, kinds: Sequence[RefKind]
) -> Sequence[Ref]:
    """Look into all kinds with one statement; `between` on ids is a walk of their index."""
    parts = [
        sa.select(sa.literal(kind).label("kind"), key.label("id"))
        .where(house == house_id, key.between(wanted.low, wanted.high))
        .order_by(key)
        .limit(_CANDIDATES)
        .subquery()
        for kind, (key, house) in _SEARCHED.items()
        if kind in kinds
    ]
    found = await conn.execute(sa.union_all(*(sa.select(part) for part in parts)))
    return [Ref(**row) for row in found.mappings()]


async def _refuse_deleted(conn: AsyncConnection, *, house_id: HouseId, wanted: IdRange) -> None:
    """Say Gone rather than unknown, so that a repeated delete by reference converges."""
    gone = tables.deletions.c
    statement = (
        sa.select(gone.thread_id)
        .where(gone.house_id == house_id, gone.thread_id.between(wanted.low, wanted.high))
        .limit(2)
    )
    found = (await conn.scalars(statement)).all()
    if len(found) == 1:
        raise Gone(str(found[0]))
