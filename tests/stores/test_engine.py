"""Pools and doors: identity, timeouts, healing."""

import asyncio

import psycopg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch.config import Settings
from dispatch.errors import Invalid, Unavailable
from dispatch.stores.postgres import engine
from tests.stores.factories import Home, address

WHO = sa.text("select coalesce(current_setting('arbe.member', true), ''), current_user")
MINE = sa.text("select name, id from houses")


def settings(url: str, **fields: object) -> Settings:
    return Settings(database_url=SecretStr(url), **fields)


async def test_an_identity_never_outlives_its_transaction(
    postgres_url: str, home: Home, elsewhere: Home
) -> None:
    pool = engine.make_engine(
        postgres_url, role="arbe_api", settings=settings(postgres_url, database_pool_size=2)
    )

    async def request(number: int) -> None:
        whose = (home, elsewhere)[number % 2]
        async with engine.as_member(pool, whose.owner.id) as conn:
            seen = (await conn.execute(MINE)).all()
            assert [row.id for row in seen] == [whose.house.id]
            if number % 5 == 0:
                await conn.execute(sa.text("select set_config('arbe.member', 'x', false)"))
            if number % 7 == 0:
                raise LookupError
            if number % 11 == 0:
                await conn.execute(sa.text("select pg_sleep(0.05)"))

    async def stranger() -> None:
        async with engine.as_nobody(pool) as conn:
            assert (await conn.execute(WHO)).one() == ("", "arbe_api")
            assert (await conn.execute(MINE)).all() == []

    tasks = [
        asyncio.create_task(stranger() if number % 3 == 0 else request(number))
        for number in range(200)
    ]
    await asyncio.sleep(0)
    for task in tasks[::13]:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    await pool.dispose()
    assert {type(each) for each in ended} <= {type(None), LookupError, asyncio.CancelledError}
    assert sum(each is None for each in ended) > 100


async def test_a_changed_role_or_setting_is_wiped_on_return(
    postgres_url: str, home: Home
) -> None:
    pool = engine.make_engine(
        postgres_url, role="arbe_api", settings=settings(postgres_url, database_pool_size=1)
    )
    async with engine.as_nobody(pool) as conn:
        await conn.execute(sa.text("set role none"))
        await conn.execute(sa.text("set statement_timeout = 0"))
        await conn.execute(
            sa.text("select set_config('arbe.member', :id, false)"), {"id": str(home.owner.id)}
        )
    async with engine.as_nobody(pool) as conn:
        assert (await conn.execute(WHO)).one() == ("", "arbe_api")
        assert await conn.scalar(sa.text("show statement_timeout")) == "5s"
    await pool.dispose()


async def test_a_pool_heals_after_its_connections_were_killed(
    postgres_url: str, admin: psycopg.AsyncConnection, home: Home
) -> None:
    pool = engine.make_engine(
        postgres_url, role="arbe_worker", settings=settings(postgres_url, database_pool_size=3)
    )

    async def look() -> int:
        async with engine.as_worker(pool) as conn:
            return len((await conn.execute(MINE)).all())

    async def pid() -> int:
        async with engine.as_worker(pool) as conn:
            return await conn.scalar(sa.text("select pg_backend_pid()"))

    assert min(await asyncio.gather(*(look() for _ in range(3)))) > 0
    before = await pid()
    await admin.execute(
        "select pg_terminate_backend(pid, 2000) from pg_stat_activity"
        " where application_name = 'arbe_worker'"
    )
    assert min(await asyncio.gather(*(look() for _ in range(6)))) > 0
    assert await pid() != before
    await pool.dispose()


async def test_a_connection_lost_in_the_middle_is_unavailable(
    api: AsyncEngine, admin: psycopg.AsyncConnection, home: Home
) -> None:
    async def cut_off() -> None:
        async with home.as_owner() as conn:
            pid = await conn.scalar(sa.text("select pg_backend_pid()"))
            await admin.execute("select pg_terminate_backend(%s, 2000)", [pid])
            await conn.execute(MINE)

    with pytest.raises(Unavailable):
        await cut_off()
    async with home.as_owner() as conn:
        assert len((await conn.execute(MINE)).all()) == 1


async def test_a_postgres_that_is_not_there_is_unavailable(tmp_path: str) -> None:
    for url in (f"postgresql://a@/b?host={tmp_path}", "postgresql://a:pw@127.0.0.1:1/b"):
        pool = engine.make_engine(url, role="arbe_api", settings=settings(url))
        with pytest.raises(Unavailable) as refused:
            async with engine.as_nobody(pool):
                pytest.fail("the door opened")
        assert "pw" not in str(refused.value)
        await pool.dispose()


async def test_a_busy_pool_and_a_slow_statement_are_unavailable(postgres_url: str) -> None:
    pool = engine.make_engine(
        postgres_url,
        role="arbe_api",
        settings=settings(postgres_url, database_pool_size=1, database_timeout_seconds=0.2),
    )
    async with engine.as_nobody(pool):
        with pytest.raises(Unavailable, match="busy"):
            async with engine.as_nobody(pool):
                pytest.fail("the pool has one connection")
    with pytest.raises(Unavailable):
        async with engine.as_nobody(pool) as conn:
            await conn.execute(sa.text("select pg_sleep(5)"))
    await pool.dispose()


async def test_a_database_without_schema_says_how_to_get_one(
    postgres_url: str, admin: psycopg.AsyncConnection
) -> None:
    await admin.execute("create database bare")
    url = address(postgres_url, database="bare")
    pool = engine.make_engine(url, role="arbe_api", settings=settings(url))
    with pytest.raises(Unavailable, match="arbe db upgrade"):
        async with engine.as_nobody(pool) as conn:
            await conn.execute(MINE)
    await pool.dispose()
    await admin.execute("drop database bare")


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://a:secret@b/c", "redis://a:secret@b"])
def test_a_url_that_is_no_postgres_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        engine.driver_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_any_postgres_url_gets_our_driver(scheme: str) -> None:
    assert engine.driver_url(f"{scheme}://a@b/c").drivername == "postgresql+psycopg"
