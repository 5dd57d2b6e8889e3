"""The schema's history: whole, once, by whoever owns the database."""

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from dispatch.errors import Invalid, Unavailable
from dispatch.stores.postgres import engine
from dispatch.stores.postgres.migrations import runner
from dispatch.stores.postgres.tables import metadata
from tests.stores.factories import address

COLUMN_WORDS = ("add_table", "remove_table", "add_column", "remove_column", "modify_")


@pytest_asyncio.fixture
async def new_database(
    postgres_url: str, admin: psycopg.AsyncConnection
) -> AsyncIterator[Callable[[str], str]]:
    """An empty database of a plain login that may create roles and is no superuser."""
    await admin.execute("drop database if exists plain")
    await admin.execute("drop role if exists landlord")
    await admin.execute("create role landlord login createrole password 'rent'")
    await admin.execute("create database plain owner landlord")
    plain = {"database": "plain"}
    landlord = {**plain, "username": "landlord", "password": "rent"}
    yield lambda login: address(postgres_url, **(landlord if login == "landlord" else plain))
    await admin.execute("drop database plain with (force)")
    await admin.execute("drop owned by landlord cascade")
    await admin.execute("drop role landlord")


def applied(url: str) -> list[str]:
    with sa.create_engine(engine.driver_url(url), poolclass=sa.NullPool).connect() as conn:
        return list(conn.scalars(sa.text("select version_num from alembic_version")))


async def test_four_migrators_at_once_migrate_once(
    new_database: Callable[[str], str],
) -> None:
    url = new_database("postgres")
    await asyncio.gather(*(asyncio.to_thread(runner.upgrade, url) for _ in range(4)))
    assert applied(url) == ["0004"]


async def test_a_plain_owner_of_the_database_may_migrate_and_serve(
    new_database: Callable[[str], str], admin: psycopg.AsyncConnection
) -> None:
    for role in ("arbe_api", "arbe_worker", "arbe_definer"):  # as its administrator would
        await admin.execute(f"grant {role} to landlord")
    url = new_database("landlord")
    await asyncio.to_thread(runner.upgrade, url)
    await asyncio.to_thread(runner.upgrade, url)
    assert applied(url) == ["0004"]
    async with await psycopg.AsyncConnection.connect(url, options="-c role=arbe_api") as conn:
        found = await (
            await conn.execute(
                "select arbe_create_house(gen_random_uuid(), 'a',"
                " gen_random_uuid(), gen_random_uuid(), 'b', gen_random_uuid(), 'c',"
                " repeat('0', 64), null)"
            )
        ).fetchone()
        assert found is not None


async def test_a_login_without_the_rights_is_told_so_and_changes_nothing(
    new_database: Callable[[str], str], admin: psycopg.AsyncConnection
) -> None:
    await admin.execute("alter role landlord nocreaterole")
    with pytest.raises(Invalid, match="CREATEROLE"):
        await asyncio.to_thread(runner.upgrade, new_database("landlord"))
    async with await psycopg.AsyncConnection.connect(new_database("postgres")) as conn:
        found = await conn.execute("select count(*) from pg_tables where schemaname = 'public'")
        assert await found.fetchone() == (0,)


async def test_a_role_found_too_strong_is_refused(
    new_database: Callable[[str], str], admin: psycopg.AsyncConnection
) -> None:
    await admin.execute("alter role arbe_worker bypassrls")
    try:
        with pytest.raises(Invalid, match="BYPASSRLS"):
            await asyncio.to_thread(runner.upgrade, new_database("postgres"))
    finally:
        await admin.execute("alter role arbe_worker nobypassrls")


def test_a_server_older_than_fifteen_is_refused() -> None:
    with pytest.raises(Invalid, match=r"14\.9 is too old"):
        runner.refuse_old((14, 9))
    runner.refuse_old((15, 0))


async def test_no_server_is_unavailable(tmp_path: str) -> None:
    with pytest.raises(Unavailable):
        await asyncio.to_thread(runner.upgrade, f"postgresql://a@/b?host={tmp_path}")


async def test_statements_and_migrations_know_the_same_columns(postgres_url: str) -> None:
    def differences() -> list[str]:
        migrated = sa.create_engine(engine.driver_url(postgres_url), poolclass=sa.NullPool)
        with migrated.connect() as conn:
            context = MigrationContext.configure(conn, opts={"compare_type": True})
            found = compare_metadata(context, metadata)
        flat = [part for each in found for part in (each if isinstance(each, list) else [each])]
        return [str(each) for each in flat if str(each[0]).startswith(COLUMN_WORDS)]

    assert await asyncio.to_thread(differences) == []
