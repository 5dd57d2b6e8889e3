"""A ChatManager over every storage there is, each test with a storage of its own."""

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from dispatch.chats import ChatManager, ChatStorage
from tests.chats import doors, mongod

Other = Callable[..., Any]


@pytest.fixture(autouse=True)
def what_mongo_leaves(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no later test find what this one's driver left open."""
    yield
    if "mongo" in request.node.name or "motor" in request.node.name:
        mongod.forget_sockets()


@pytest_asyncio.fixture(scope="session")
async def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a private mongod."""
    cause = await mongod.why_not()
    if cause:
        pytest.skip(cause)
    async with mongod.running(tmp_path_factory.mktemp("mongod")) as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def chats_postgres_url(postgres_url: str) -> str:
    """The address of the session's Postgres, with a schema for the tables made here."""
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        await connection.execute(f"create schema if not exists {doors.SCHEMA}")
    return postgres_url


@pytest.fixture
def name() -> str:
    return f"chats_{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=doors.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    """Start the server that the kind needs, and no other; its address."""
    fixture = {
        "redis": "stream_url",
        "postgres": "chats_postgres_url",
        "mongo": "mongo_url",
    }.get(doors.server_of(kind))
    return request.getfixturevalue(fixture) if fixture else ""


@pytest_asyncio.fixture
async def storage(kind: str, url: str, name: str) -> AsyncIterator[ChatStorage]:
    async with doors.opened(kind, url, name) as opened:
        yield opened


@pytest.fixture
def chats(storage: ChatStorage) -> ChatManager:
    return ChatManager("my-agent", storage)


@pytest.fixture
def other(kind: str, url: str, name: str) -> Callable[[], AbstractAsyncContextManager[Other]]:
    """Start another process that holds a ChatManager over the same storage."""
    return lambda: _other(kind, url, name)


@asynccontextmanager
async def _other(kind: str, url: str, name: str) -> AsyncIterator[Other]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chats.other", kind, url, name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    words, answers = process.stdin, process.stdout

    async def say(call: str, *each: dict[str, Any]) -> list[Any]:
        words.write(json.dumps({"call": call, "each": each}).encode() + b"\n")
        await words.drain()
        found: list[Any] = json.loads(await answers.readline())
        return found

    try:
        async with asyncio.timeout(60):
            assert await answers.readline() == b"ready\n"
        yield say
    finally:
        words.close()
        async with asyncio.timeout(60):
            await process.wait()
