"""Engines under both roles, a look behind them, and houses made fresh for each test."""

from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch.config import Settings
from dispatch.stores.postgres import engine
from tests.stores import factories


@pytest.fixture(scope="session")
def store_settings(postgres_url: str) -> Settings:
    """Settings without a Redis: nothing here starts one."""
    return Settings(database_url=SecretStr(postgres_url))


@pytest_asyncio.fixture(scope="session")
async def api(postgres_url: str, store_settings: Settings) -> AsyncIterator[AsyncEngine]:
    made = engine.make_engine(postgres_url, role="arbe_api", settings=store_settings)
    yield made
    await made.dispose()


@pytest_asyncio.fixture(scope="session")
async def worker(postgres_url: str, store_settings: Settings) -> AsyncIterator[AsyncEngine]:
    made = engine.make_engine(postgres_url, role="arbe_worker", settings=store_settings)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def admin(postgres_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A superuser's connection, for looking at the catalog and behind the policies."""
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as conn:
        yield conn


@pytest_asyncio.fixture
async def home(api: AsyncEngine, worker: AsyncEngine) -> factories.Home:
    return await factories.found_home(api, worker)


@pytest_asyncio.fixture
async def elsewhere(api: AsyncEngine, worker: AsyncEngine) -> factories.Home:
    """Another house: whatever it owns must not exist for `home`."""
    return await factories.found_home(api, worker)
