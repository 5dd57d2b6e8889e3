"""Rows of calls under an Idempotency-Key: claimed, answered, forgotten.

A row without answer is a claim. It ends by an answer, by being dropped (nothing was done), by
being given back (something may have been done), or by its time: then the next call with the
same key takes it over, and the one before finds its fence changed. Postgres's clock throughout.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch import ids
from dispatch.errors import Conflict
from dispatch.models.claims import (
    Answered,
    Claim,
    Found,
    NewId,
    OtherRequest,
    Scope,
    UnderWay,
)
from dispatch.stores.postgres.tables import idempotency

_TRIES: Final = 5
"""A claim may be dropped between our insert and our look: once is rare, five is never."""
_CLAIM: Final = sa.text("""
    insert into idempotency as kept (
        member_id, house_id, key_digest, request_digest, reserved_id, claim_id, claimed_until
    ) values (
        :member_id, :house_id, :key_digest, :request_digest, :reserved_id, :claim_id,
        now() + make_interval(secs => :lease_seconds)
    )
    on conflict (member_id, key_digest) do update set
        request_digest = excluded.request_digest,
        reserved_id = case when kept.created_at < now() - make_interval(secs => :kept_seconds)
            then excluded.reserved_id else kept.reserved_id end,
        created_at = case when kept.created_at < now() - make_interval(secs => :kept_seconds)
            then now() else kept.created_at end,
        claim_id = excluded.claim_id,
        claimed_until = excluded.claimed_until,
        status = null,
        answer = null
    where (kept.status is not null or kept.claimed_until <= now())
        and (kept.created_at < now() - make_interval(secs => :kept_seconds)
            or (kept.status is null and kept.request_digest = excluded.request_digest))
    returning reserved_id
""")
"""Free are: a new key, one old enough to be forgotten, an abandoned claim on the same call."""


async def claim(
    conn: AsyncConnection,
    *,
    scope: Scope,
    key_digest: bytes,
    request_digest: bytes,
    lease_seconds: float,
    kept_seconds: float,
) -> Found:
    """Take the right to run a call, or tell what is known of its key.

    Promise: of any number at once one gets the claim; nobody else does before it ends. A repeat
    finds the id that was reserved at first. Runs as the scope's member.
    Args: kept_seconds: a row that is older counts as none, swept or not.
    """
    wanted = ids.uuid7()
    claim_id = ids.uuid7()
    values = {
        **_place(scope, key_digest),
        "house_id": scope.house_id,
        "request_digest": request_digest,
        "reserved_id": wanted,
        "claim_id": claim_id,
        "lease_seconds": lease_seconds,
        "kept_seconds": kept_seconds,
    }
    for _ in range(_TRIES):
        reserved_id = await conn.scalar(_CLAIM, values)
        if reserved_id is not None:
            return Claim(
                scope=scope,
                key_digest=key_digest,
                claim_id=claim_id,
                reserved_id=reserved_id,
                is_repeat=reserved_id != wanted,
            )
        found = await _find(conn, scope, key_digest, request_digest)
        if found is not None:
            return found
    return UnderWay(free_after_seconds=lease_seconds)


async def hold(conn: AsyncConnection, *, new: NewId) -> None:
    """Return if the claim that reserved this id is still ours; keep it until the commit.

    Promise: a process that slept through its claim makes no row after another has made it.
    Does nothing for an id nobody reserved.
    Raises: Conflict (`key_in_use`).
    """
    if new.claim is None:
        return
    mine = sa.select(idempotency.c.claim_id).where(*_is(new.claim)).with_for_update()
    if (await conn.execute(mine)).first() is None:
        raise in_use(free_after_seconds=1.0)


async def finish(
    conn: AsyncConnection, *, claim: Claim, status: int, sealed: bytes
) -> bool | None:
    """Keep the answer of a claimed call.

    Returns: True: kept. False: somebody took the claim over, what they answer counts. None:
    there is no row any more, since the call removed the member.
    """
    done = await conn.execute(
        sa.update(idempotency).where(*_is(claim)).values(status=status, answer=sealed)
    )
    if done.rowcount == 1:
        return True
    there = sa.select(idempotency.c.claim_id).where(*_at(claim))
    return None if (await conn.execute(there)).first() is None else False


async def drop(conn: AsyncConnection, *, claim: Claim) -> None:
    """Let go of a call that did nothing: its key is as good as new, for any call."""
    await conn.execute(sa.delete(idempotency).where(*_is(claim)))


async def give_back(conn: AsyncConnection, *, claim: Claim) -> None:
    """Let the same call be repeated at once: this attempt may have done something."""
    await conn.execute(
        sa.update(idempotency).where(*_is(claim)).values(claimed_until=sa.func.now())
    )


async def delete_old(conn: AsyncConnection, *, older_than_seconds: float, limit: int) -> int:
    """Forget that many rows of that age, and tell how many; a worker's right.

    Promise: a call under way keeps its row. Two sweeps at once: one waits for the other, and
    forgets what is left of the same rows.
    """
    age = sa.func.make_interval(0, 0, 0, 0, 0, 0, older_than_seconds)
    place = (idempotency.c.member_id, idempotency.c.key_digest)
    old = (
        sa.select(*place)
        .where(
            idempotency.c.created_at < sa.func.now() - age,
            idempotency.c.claimed_until < sa.func.now(),
        )
        .order_by(idempotency.c.created_at)
        .limit(limit)
    )
    done = await conn.execute(sa.delete(idempotency).where(sa.tuple_(*place).in_(old)))
    return done.rowcount


def in_use(*, free_after_seconds: float) -> Conflict:
    """Return the refusal of a call whose key somebody else is at."""
    return Conflict(
        "key_in_use",
        "A call with this Idempotency-Key is under way, or its process died.",
        next_step=f"Repeat the same call in a second; in {free_after_seconds:.0f} s it is free "
        "in any case.",
        retryAfterSeconds=1.0,
        freeAfterSeconds=round(free_after_seconds, 1),
    )


async def _find(
    conn: AsyncConnection, scope: Scope, key_digest: bytes, request_digest: bytes
) -> Answered | UnderWay | OtherRequest | None:
    left = sa.func.extract("epoch", idempotency.c.claimed_until - sa.func.now())
    columns = idempotency.c
    statement = sa.select(
        columns.request_digest, columns.reserved_id, columns.answer, left.label("seconds")
    ).where(columns.member_id == scope.member_id, columns.key_digest == key_digest)
    row = (await conn.execute(statement)).mappings().first()
    if row is None:
        return None
    if row["request_digest"] != request_digest:
        return OtherRequest()
    if row["answer"] is not None:
        return Answered(reserved_id=row["reserved_id"], sealed=row["answer"])
    return UnderWay(free_after_seconds=max(0.0, float(row["seconds"])))


def _place(scope: Scope, key_digest: bytes) -> dict[str, Any]:
    return {"member_id": scope.member_id, "key_digest": key_digest}


def _at(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    place = _place(claim.scope, claim.key_digest)
    return tuple(idempotency.c[name] == value for name, value in place.items())


def _is(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        *_at(claim),
        idempotency.c.claim_id == claim.claim_id,
        idempotency.c.status.is_(None),
    )
