import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest
import redis.asyncio
import redis.exceptions

from dispatch import config
from dispatch.embedded import remembered
from dispatch.embedded.postgres import Postgres
from dispatch.embedded.redis import Redis


@contextlib.asynccontextmanager
async def started(server: Postgres | Redis) -> AsyncIterator[asyncio.subprocess.Process]:
    await server.prepare()
    with (server.directory / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *server.command(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        await server.wait_ready(timeout_seconds=60)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def started_again(server: Postgres) -> None:
    """Start until it answers, as the supervisor does: orphans of a kill -9 may still leave."""
    async with asyncio.timeout(90):
        while True:
            try:
                async with started(server):
                    assert await execute(server.url, "SELECT n FROM kept") == [(7,)]
                    return
            except Exception:  # noqa: BLE001, S112
                continue


async def test_the_session_has_a_postgres_and_a_redis(settings: config.Settings):
    url = settings.database_url.get_secret_value()
    assert await execute(url, "SELECT usesuper FROM pg_user WHERE usename = current_user") == [
        (True,)
    ]
    assert settings.broker == settings.stream_url.get_secret_value()


async def test_a_killed_postgres_keeps_its_data_its_port_and_its_password(tmp_path: Path):
    server = Postgres(tmp_path / "postgres")
    async with started(server) as process:
        url = server.url
        await execute(url, "CREATE TABLE kept AS SELECT 7 AS n")
        process.kill()
        await process.wait()
    await started_again(server)
    assert server.url == url


async def test_a_private_postgres_asks_for_its_password(tmp_path: Path):
    server = Postgres(tmp_path / "postgres")
    async with started(server):
        wrong = psycopg.conninfo.make_conninfo(server.url, password="wrong")
        with pytest.raises(psycopg.OperationalError, match="password"):
            await execute(wrong, "SELECT 1")


async def test_a_pid_file_whose_pid_is_somebody_elses_does_not_stop_the_start(tmp_path: Path):
    server = Postgres(tmp_path / "postgres")
    await server.prepare()
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        pid_file = tmp_path / "postgres" / "data" / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{pid_file.parent}\n1\n1\n\n\n\n\n")
        async with started(server):
            assert await execute(server.url, "SELECT 1") == [(1,)]
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_killed_redis_keeps_what_it_acknowledged(tmp_path: Path):
    server = Redis(tmp_path / "redis")
    async with started(server) as process:
        client = redis.asyncio.Redis.from_url(server.url)
        await client.xadd("arbe-thread-1", {"n": "7"})
        await client.aclose()
        process.kill()
        await process.wait()
    async with started(server):
        client = redis.asyncio.Redis.from_url(server.url)
        assert await client.xlen("arbe-thread-1") == 1
        assert await client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        await client.aclose()


async def test_a_private_redis_asks_for_its_password(tmp_path: Path):
    server = Redis(tmp_path / "redis")
    async with started(server):
        anonymous = redis.asyncio.Redis(port=remembered.port(tmp_path / "redis" / "port"))
        with pytest.raises(redis.exceptions.AuthenticationError):
            await anonymous.dbsize()
        await anonymous.aclose()


async def test_a_taken_port_is_replaced_and_a_free_one_kept(tmp_path: Path):
    file = tmp_path / "port"
    first = remembered.choose_port(file)
    assert remembered.choose_port(file) == first
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", first)
    async with listener:
        assert remembered.choose_port(file) != first
    assert remembered.port(file) == remembered.choose_port(file)


async def test_secrets_are_readable_by_their_owner_only(tmp_path: Path):
    server = Redis(tmp_path / "redis")
    await server.prepare()
    for name in ("password", "redis.conf"):
        assert stat.S_IMODE((server.directory / name).stat().st_mode) == 0o600
    arguments = " ".join(server.command())
    assert remembered.password(server.directory / "password") not in arguments


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_root_can_run_postgres_below_a_closed_folder(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with started(Postgres(closed / "postgres")):
        pass
