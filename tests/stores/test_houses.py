"""Houses, members, tokens, agents, environments: who is who."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch import ids
from dispatch.errors import Conflict, Forbidden, Invalid, NotFound
from dispatch.models.houses import Caller
from dispatch.models.threads import NewThread
from dispatch.stores.postgres import (
    agents,
    engine,
    environments,
    houses,
    members,
    threads,
    tokens,
)
from tests.stores.factories import Home, new_digest


async def test_a_house_is_founded_whole(home: Home) -> None:
    async with home.as_owner() as conn:
        assert await houses.get(conn, house_id=home.house.id) == home.house
        assert await members.get(conn, member_id=home.owner.id) == home.owner
        primary = await threads.get(conn, thread_id=home.house.primary_thread_id)
    assert (primary.name, primary.status, primary.parent.kind) == ("home", "open", "house")


async def test_a_house_that_cannot_be_founded_leaves_nothing(
    home: Home, api: AsyncEngine, admin: psycopg.AsyncConnection
) -> None:
    count = "select (select count(*) from houses), (select count(*) from threads)"
    before = await (await admin.execute(count)).fetchone()
    for bad in ({"digest": "short"}, {"name": ""}, {"owner_name": "a\x00b"}):
        fields = {"name": "n", "owner_name": "o", "token_name": "t", "digest": new_digest()}
        with pytest.raises(Invalid):
            async with engine.as_nobody(api) as conn:
                await houses.create(conn, **{**fields, **bad})
    assert await (await admin.execute(count)).fetchone() == before


async def test_an_owner_renames_the_house_and_a_member_does_not(home: Home) -> None:
    async with home.as_owner() as conn:
        assert (await houses.update(conn, house_id=home.house.id, name="New")).name == "New"
    async with home.as_member() as conn:
        with pytest.raises(NotFound):
            await houses.update(conn, house_id=home.house.id, name="Mine")


async def test_an_owner_sets_the_houses_busy_policy_and_a_member_does_not(home: Home) -> None:
    async with home.as_owner() as conn:
        house = await houses.update(conn, house_id=home.house.id, when_busy="steer")
        assert (house.when_busy, house.name) == ("steer", "Casa")
        assert await houses.update(conn, house_id=home.house.id, name="New") == replace(
            house, name="New"
        )
        assert (await houses.update(conn, house_id=home.house.id)).when_busy == "steer"
    async with home.as_member() as conn:
        with pytest.raises(NotFound):
            await houses.update(conn, house_id=home.house.id, when_busy=None)
    with pytest.raises(Invalid):
        async with home.as_owner() as conn:
            await houses.update(conn, house_id=home.house.id, when_busy="panic")  # type: ignore[arg-type]


async def test_a_token_finds_its_living_member(home: Home, api: AsyncEngine) -> None:
    async with engine.as_nobody(api) as conn:
        assert await tokens.find_caller(conn, digest=home.digest) == Caller(
            member_id=home.owner.id, house_id=home.house.id, role="owner", name="Ada"
        )
        assert await tokens.find_caller(conn, digest=new_digest()) is None
        assert await tokens.find_caller(conn, digest="a\x80") is None


async def test_an_expired_or_revoked_token_finds_nobody(home: Home, api: AsyncEngine) -> None:
    expired, revoked = new_digest(), new_digest()
    async with home.as_member() as conn:
        await tokens.insert(
            conn,
            house_id=home.house.id,
            member_id=home.member.id,
            name="old",
            digest=expired,
            expires_at=datetime.now(UTC) - timedelta(seconds=1),
        )
        mine = await tokens.insert(
            conn, house_id=home.house.id, member_id=home.member.id, name="x", digest=revoked
        )
        await tokens.delete(conn, token_id=mine.id)
        with pytest.raises(NotFound):
            await tokens.delete(conn, token_id=mine.id)
    async with engine.as_nobody(api) as conn:
        assert await tokens.find_caller(conn, digest=expired) is None
        assert await tokens.find_caller(conn, digest=revoked) is None


async def test_a_use_is_noted_once_a_minute_and_waits_for_nobody(
    home: Home, api: AsyncEngine, admin: psycopg.AsyncConnection
) -> None:
    async def look() -> datetime | None:
        async with engine.as_nobody(api) as conn:
            assert await tokens.find_caller(conn, digest=home.digest) is not None
        async with home.as_owner() as conn:
            page = await tokens.list(conn, house_id=home.house.id, limit=10)
            return next(each.last_used_at for each in page if each.id == home.token.id)

    async with admin.transaction():
        await admin.execute("select from tokens where id = %s for update", [home.token.id])
        assert await look() is None
    first = await look()
    assert first is not None
    assert await look() == first
    await admin.execute(
        "update tokens set last_used_at = now() - interval '61 s' where id = %s",
        [home.token.id],
    )
    later = await look()
    assert later is not None
    assert later >= first


async def test_a_member_sees_own_tokens_and_an_owner_all(home: Home) -> None:
    async with home.as_member() as conn:
        own = await tokens.list(conn, house_id=home.house.id, limit=10)
        with pytest.raises(NotFound):
            await tokens.delete(conn, token_id=home.token.id)
    async with home.as_owner() as conn:
        everyones = await tokens.list(conn, house_id=home.house.id, limit=10)
    assert {each.member_id for each in own} == {home.member.id}
    assert {each.member_id for each in everyones} == {home.member.id, home.owner.id}


async def test_a_member_makes_no_token_for_another(home: Home, elsewhere: Home) -> None:
    with pytest.raises(Forbidden):
        async with home.as_member() as conn:
            await tokens.insert(
                conn,
                house_id=home.house.id,
                member_id=home.owner.id,
                name="n",
                digest=new_digest(),
            )
    with pytest.raises(NotFound):
        async with home.as_owner() as conn:
            await tokens.insert(
                conn,
                house_id=home.house.id,
                member_id=elsewhere.member.id,
                name="n",
                digest=new_digest(),
            )


async def test_only_owners_manage_members(home: Home) -> None:
    with pytest.raises(Forbidden):
        async with home.as_member() as conn:
            await members.insert(conn, house_id=home.house.id, name="Eve", role="owner")
    async with home.as_member() as conn:
        with pytest.raises(NotFound):
            await members.update(conn, member_id=home.member.id, role="owner")
        with pytest.raises(NotFound):
            await members.delete(conn, member_id=home.owner.id)
    async with home.as_owner() as conn:
        up = await members.update(conn, member_id=home.member.id, role="owner", name="Bob")
        assert (up.role, up.name) == ("owner", "Bob")


async def test_a_house_keeps_an_owner_even_if_two_remove_each_other(home: Home) -> None:
    async with home.as_owner() as conn:
        for act in (
            members.delete(conn, member_id=home.owner.id),
            members.update(conn, member_id=home.owner.id, role="member"),
        ):
            with pytest.raises(Conflict):
                await act
        await members.update(conn, member_id=home.member.id, role="owner")

    async def remove(door: object, member_id: ids.MemberId) -> None:
        async with door() as conn:
            await members.delete(conn, member_id=member_id)

    ended = await asyncio.gather(
        remove(home.as_owner, home.member.id),
        remove(home.as_member, home.owner.id),
        return_exceptions=True,
    )
    assert sum(each is None for each in ended) == 1


async def test_a_removed_members_tokens_are_gone(home: Home, api: AsyncEngine) -> None:
    digest = new_digest()
    async with home.as_owner() as conn:
        await tokens.insert(
            conn, house_id=home.house.id, member_id=home.member.id, name="n", digest=digest
        )
        await members.delete(conn, member_id=home.member.id)
    async with engine.as_nobody(api) as conn:
        assert await tokens.find_caller(conn, digest=digest) is None


async def test_a_handle_is_taken_once_per_house(home: Home, elsewhere: Home) -> None:
    async with home.as_member() as conn:
        other = await agents.insert(conn, house_id=home.house.id, handle="other", runner="demo")
    with pytest.raises(Conflict, match="handle"):
        async with home.as_member() as conn:
            await agents.update(conn, agent_id=other.id, handle="demo")
    with pytest.raises(Conflict, match="handle"):
        async with home.as_member() as conn:
            await agents.insert(conn, house_id=home.house.id, handle="demo", runner="demo")
    async with elsewhere.as_member() as conn:
        found = await agents.find_by_handle(conn, house_id=elsewhere.house.id, handle="demo")
        assert found == elsewhere.agent


async def test_an_agent_is_changed_in_what_is_given(home: Home) -> None:
    async with home.as_member() as conn:
        await agents.update(conn, agent_id=home.agent.id, model="m", config={"a": 1})
        now = await agents.update(conn, agent_id=home.agent.id, trigger_mode="always")
        assert (now.model, now.config, now.trigger_mode) == ("m", {"a": 1}, "always")
        assert (await agents.update(conn, agent_id=home.agent.id, model=None)).model is None
        assert await agents.list(conn, house_id=home.house.id, limit=5) == (
            await agents.get(conn, agent_id=home.agent.id),
        )
    with pytest.raises(Invalid):
        async with home.as_member() as conn:
            await agents.update(conn, agent_id=home.agent.id, handle="No Good")


async def test_an_agent_with_direct_threads_and_a_bound_environment_stay(home: Home) -> None:
    async with home.as_member() as conn:
        await threads.insert_dm(conn, house_id=home.house.id, agent_id=home.agent.id)
        await threads.insert(
            conn,
            new=NewThread(house_id=home.house.id, environment_id=home.environment.id),
        )
    with pytest.raises(Conflict):
        async with home.as_member() as conn:
            await agents.delete(conn, agent_id=home.agent.id)
    with pytest.raises(Conflict):
        async with home.as_member() as conn:
            await environments.delete(conn, environment_id=home.environment.id)


async def test_an_environment_is_changed_and_removed(home: Home) -> None:
    async with home.as_member() as conn:
        changed = await environments.update(
            conn, environment_id=home.environment.id, config={"image": "x"}
        )
        assert (changed.name, changed.config) == ("box", {"image": "x"})
        await environments.delete(conn, environment_id=home.environment.id)
        with pytest.raises(NotFound):
            await environments.get(conn, environment_id=home.environment.id)
        assert await environments.list(conn, house_id=home.house.id, limit=5) == ()
