"""Real servers for the whole session: private ones, or those that the environment names."""

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from dispatch import config
from dispatch.embedded import launch
from dispatch.embedded.postgres import Postgres
from dispatch.embedded.redis import Redis

# A run in the background ignores SIGINT, and so would the processes whose Ctrl-C we test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MIGRATIONS = "dispatch.stores.postgres.migrations.runner"
STOP_SECONDS = 20.0


@contextlib.asynccontextmanager
async def running(server: Postgres | Redis, log: Path) -> AsyncIterator[str]:
    """Run one private server; it is gone when this ends, and it dies with this process."""
    await server.prepare()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *launch.command(server.command()),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        await server.wait_ready()
        yield server.url
    finally:
        # Postgres: SIGINT ends its sessions, SIGTERM would wait for them.
        process.send_signal(2)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@pytest_asyncio.fixture(scope="session")
async def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A superuser's address of a migrated Postgres."""
    given = os.environ.get("DATABASE_URL")
    if given:
        await migrate(given)
        yield given
        return
    folder = tmp_path_factory.mktemp("postgres")
    hasty = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    async with running(Postgres(folder, options=hasty), folder / "log") as url:
        await migrate(url)
        yield url


@pytest_asyncio.fixture(scope="session")
async def stream_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of an empty Redis, or of the one the environment names."""
    given = os.environ.get("STREAM_URL")
    if given:
        yield given
        return
    folder = tmp_path_factory.mktemp("redis")
    async with running(Redis(folder, appendfsync="no"), folder / "log") as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def settings(postgres_url: str, stream_url: str) -> config.Settings:
    """Settings that point at the session's servers; `model_copy(update=…)` for others."""
    return config.Settings(
        database_url=SecretStr(postgres_url), stream_url=SecretStr(stream_url)
    )


async def migrate(url: str) -> None:
    """Bring the schema up to date, if there is one yet."""
    try:
        found = importlib.util.find_spec(MIGRATIONS)
    except ModuleNotFoundError:
        return
    if found:
        done = importlib.import_module(MIGRATIONS).upgrade(url)
        if inspect.isawaitable(done):
            await done
