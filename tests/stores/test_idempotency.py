"""Claims on calls under a key: one at a time, one id for all attempts, forgotten in time."""

import asyncio
import secrets

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch.errors import Conflict
from dispatch.ids import HouseId
from dispatch.models import claims
from dispatch.models.claims import Answered, Claim, Found, OtherRequest, Scope, UnderWay
from dispatch.stores.postgres import engine, houses, idempotency, members
from dispatch.stores.postgres.tables import idempotency as table
from tests.stores.factories import Home, new_digest

REQUEST = b"r" * 32
KEPT_SECONDS = 3600.0


def scope_of(home: Home) -> Scope:
    return Scope(member_id=home.owner.id, house_id=home.house.id)


OPERATOR = Scope(member_id=claims.OPERATOR)


async def take(
    api: AsyncEngine,
    scope: Scope,
    key: bytes,
    request: bytes = REQUEST,
    *,
    lease_seconds: float = 60.0,
) -> Found:
    async with engine.as_member(api, scope.member_id) as conn:
        return await idempotency.claim(
            conn,
            scope=scope,
            key_digest=key,
            request_digest=request,
            lease_seconds=lease_seconds,
            kept_seconds=KEPT_SECONDS,
        )


async def claimed(api: AsyncEngine, scope: Scope, key: bytes) -> Claim:
    found = await take(api, scope, key)
    assert isinstance(found, Claim)
    return found


async def finish(api: AsyncEngine, claim: Claim, sealed: bytes = b"sealed") -> bool | None:
    async with engine.as_member(api, claim.scope.member_id) as conn:
        return await idempotency.finish(conn, claim=claim, status=201, sealed=sealed)


async def hold(api: AsyncEngine, claim: Claim) -> None:
    async with engine.as_member(api, claim.scope.member_id) as conn:
        await idempotency.hold(conn, new=claims.reserved(claim))


@pytest.fixture
def key() -> bytes:
    return secrets.token_bytes(32)


async def test_of_many_at_once_one_gets_the_claim(
    home: Home, api: AsyncEngine, key: bytes
) -> None:
    found = await asyncio.gather(*(take(api, scope_of(home), key) for _ in range(20)))
    assert sum(isinstance(each, Claim) for each in found) == 1
    assert sum(isinstance(each, UnderWay) for each in found) == 19


async def test_an_answer_is_found_again_and_another_request_is_not_it(
    home: Home, api: AsyncEngine, key: bytes
) -> None:
    claim = await claimed(api, scope_of(home), key)
    assert await finish(api, claim) is True
    found = await take(api, scope_of(home), key)
    assert found == Answered(reserved_id=claim.reserved_id, sealed=b"sealed")
    assert await take(api, scope_of(home), key, b"o" * 32) == OtherRequest()
    assert await finish(api, claim) is False  # an answer stands once


async def test_an_abandoned_claim_is_taken_over_with_the_same_id_and_its_holder_is_out(
    home: Home, api: AsyncEngine, key: bytes, admin: psycopg.AsyncConnection
) -> None:
    first = await claimed(api, scope_of(home), key)
    await admin.execute(
        "update idempotency set claimed_until = now() where key_digest = %s", [key]
    )
    assert await take(api, scope_of(home), key, b"o" * 32) == OtherRequest()
    second = await claimed(api, scope_of(home), key)
    assert (second.reserved_id, second.is_repeat) == (first.reserved_id, True)
    assert not first.is_repeat
    with pytest.raises(Conflict) as late:
        await hold(api, first)
    assert late.value.reason == "key_in_use"
    assert await finish(api, first) is False
    async with home.as_owner() as conn:
        await idempotency.drop(conn, claim=first)
        await idempotency.give_back(conn, claim=first)
    await hold(api, second)
    assert await finish(api, second) is True


async def test_a_dropped_key_is_as_new_and_one_given_back_is_free_for_its_own_call(
    home: Home, api: AsyncEngine, key: bytes
) -> None:
    first = await claimed(api, scope_of(home), key)
    async with home.as_owner() as conn:
        await idempotency.drop(conn, claim=first)
    second = await claimed(api, scope_of(home), key)
    assert second.reserved_id != first.reserved_id
    assert not second.is_repeat
    async with home.as_owner() as conn:
        await idempotency.give_back(conn, claim=second)
    third = await claimed(api, scope_of(home), key)
    assert (third.reserved_id, third.is_repeat) == (second.reserved_id, True)


async def test_an_old_key_is_new_again_swept_or_not(
    home: Home, api: AsyncEngine, key: bytes, admin: psycopg.AsyncConnection
) -> None:
    first = await claimed(api, scope_of(home), key)
    aged = "update idempotency set created_at = now() - interval '1 day' where key_digest = %s"
    await admin.execute(aged, [key])
    assert isinstance(await take(api, scope_of(home), key), UnderWay)  # somebody is at it
    await finish(api, first)
    await admin.execute(
        "update idempotency set claimed_until = now() where key_digest = %s", [key]
    )
    second = await take(api, scope_of(home), key, b"o" * 32)
    assert isinstance(second, Claim)
    assert second.reserved_id != first.reserved_id
    assert not second.is_repeat


async def test_the_sweep_forgets_old_keys_in_batches_and_none_under_way(
    home: Home, api: AsyncEngine, worker: AsyncEngine, admin: psycopg.AsyncConnection
) -> None:
    async def sweep(limit: int) -> int:
        async with engine.as_worker(worker) as conn:
            return await idempotency.delete_old(conn, older_than_seconds=24 * 3600, limit=limit)

    await sweep(10_000)  # what other tests left
    keys = [secrets.token_bytes(32) for _ in range(5)]
    for key in keys:
        claim = await claimed(api, scope_of(home), key)
        if key != keys[0]:
            await finish(api, claim)
    await admin.execute(
        "update idempotency set created_at = now() - interval '2 days', claimed_until = "
        "claimed_until - case when status is null then interval '0' else interval '1 day' end "
        "where member_id = %s",
        [home.owner.id],
    )

    assert await sweep(3) == 3
    assert sum(await asyncio.gather(sweep(3), sweep(3))) == 1
    async with home.as_owner() as conn:
        left = (await conn.scalars(sa.select(table.c.key_digest))).all()
    assert left == [keys[0]]


async def test_the_same_key_of_another_member_or_the_operator_is_another_key(
    home: Home, elsewhere: Home, api: AsyncEngine, key: bytes
) -> None:
    bo = Scope(member_id=home.member.id, house_id=home.house.id)
    found = [await claimed(api, scope, key) for scope in (scope_of(home), bo, OPERATOR)]
    assert len({each.reserved_id for each in found}) == 3
    async with elsewhere.as_owner() as conn:
        assert (await conn.execute(sa.select(table))).all() == []
    async with engine.as_nobody(api) as conn:
        assert (await conn.execute(sa.select(table))).all() == []
    async with engine.as_member(api, claims.OPERATOR) as conn:
        owners = {row.member_id for row in await conn.execute(sa.select(table))}
    assert owners == {claims.OPERATOR}


async def test_a_removed_members_keys_go_with_them(
    home: Home, api: AsyncEngine, key: bytes
) -> None:
    bo = Scope(member_id=home.member.id, house_id=home.house.id)
    claim = await claimed(api, bo, key)
    async with home.as_owner() as conn:
        await members.delete(conn, member_id=home.member.id)
    assert await finish(api, claim) is None


async def test_only_its_own_unanswered_claim_opens_a_founded_house_again(
    home: Home, api: AsyncEngine, key: bytes
) -> None:
    claim = await claimed(api, OPERATOR, key)
    house_id = HouseId(claim.reserved_id)

    async def again(scope: Scope) -> bool:
        async with engine.as_member(api, scope.member_id) as conn:
            found = await houses.create_again(conn, house_id=house_id, digest=new_digest())
        return found is not None

    assert not await again(OPERATOR)  # not founded yet
    async with engine.as_nobody(api) as conn:
        await houses.create(
            conn,
            name="n",
            owner_name="o",
            token_name="t",
            digest=new_digest(),
            house_id=house_id,
        )
    assert not await again(scope_of(home))
    assert await again(OPERATOR)
    async with engine.as_nobody(api) as conn:
        stolen = await houses.create_again(conn, house_id=home.house.id, digest=new_digest())
    assert stolen is None
    await finish(api, claim)
    assert not await again(OPERATOR)


async def test_a_house_whose_token_was_used_is_not_opened_again(
    api: AsyncEngine, key: bytes, admin: psycopg.AsyncConnection
) -> None:
    claim = await claimed(api, OPERATOR, key)
    house_id = HouseId(claim.reserved_id)
    fields = {"name": "n", "owner_name": "o", "token_name": "t", "digest": new_digest()}
    async with engine.as_member(api, claims.OPERATOR) as conn:
        await houses.create(conn, **fields, house_id=house_id)
    await admin.execute(
        "update tokens set last_used_at = now() where house_id = %s", [house_id]
    )
    async with engine.as_member(api, claims.OPERATOR) as conn:
        assert await houses.create_again(conn, house_id=house_id, digest=new_digest()) is None
