"""The storage that `ARBE_CHATS_URL` names, opened once per process."""

import dataclasses
import importlib
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis.asyncio

from dispatch import log
from dispatch.chats.postgres import PostgreSQLChatStorage
from dispatch.chats.redis import RedisChatStorage
from dispatch.chats.storage import ChatStorage
from dispatch.config import Settings
from dispatch.errors import Invalid, Unavailable
from dispatch.stores.postgres import engine

_log = log.get(__name__)


@asynccontextmanager
async def open_storage(
    settings: Settings, *, database: engine.Engine | None = None
) -> AsyncGenerator[ChatStorage]:
    """Hold the storage of our server's chats open for the length of a block.

    Args: database: our own Postgres, if the caller has it open: then nothing is opened for it.
    Promise: a server that is away now does not stop the block; its calls are Unavailable until
    it is back. A storage that is not our own Postgres gets its table or indexes here.
    Raises: Invalid, when the URL is none that we know.
    """
    url = settings.chats_url.get_secret_value()
    match urlsplit(url).scheme:
        case "" if not url:
            opened = _our_own(settings, database)
        case "redis" | "rediss" | "unix":
            opened = _in_redis(url, settings)
        case "postgresql" | "postgres":
            opened = _in_postgres(url, settings)
        case "mongodb" | "mongodb+srv":
            opened = _in_mongo(url, settings)
        case _:
            raise Invalid(
                "ARBE_CHATS_URL names no storage for chats.",
                next_step="Use redis://…, postgresql://… or mongodb://…, or leave it empty.",
            )
    async with opened as storage:
        yield storage


@asynccontextmanager
async def _our_own(
    settings: Settings, database: engine.Engine | None
) -> AsyncGenerator[ChatStorage]:
    if database is not None:
        yield PostgreSQLChatStorage(_Lender(database))
        return
    url = settings.database_url.get_secret_value()
    made = engine.make_engine(url, role="arbe_api", settings=settings)
    try:
        yield PostgreSQLChatStorage(_Lender(made))
    finally:
        await made.dispose()


@asynccontextmanager
async def _in_redis(url: str, settings: Settings) -> AsyncGenerator[ChatStorage]:
    seconds = settings.stream_timeout_seconds
    library: Any = redis.asyncio.Redis
    client = library.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds)
    try:
        yield RedisChatStorage(client)
    finally:
        await client.aclose()


@asynccontextmanager
async def _in_postgres(url: str, settings: Settings) -> AsyncGenerator[ChatStorage]:
    """Another Postgres than our own, under the role that the URL itself logs in as."""
    made = engine.make_engine(url, role=None, settings=settings)
    storage = PostgreSQLChatStorage(_Lender(made))
    try:
        await _prepare(storage.initialize_schema())
        yield storage
    finally:
        await made.dispose()


@asynccontextmanager
async def _in_mongo(url: str, settings: Settings) -> AsyncGenerator[ChatStorage]:
    library = _mongo_library()
    milliseconds = int(settings.database_timeout_seconds * 1000)
    client = library.AsyncMongoClient(url, tz_aware=True, timeoutMS=milliseconds)
    storage = importlib.import_module("dispatch.chats.mongo").MongoChatStorage(
        client.get_default_database("arbe")
    )
    try:
        await _prepare(storage.initialize_indexes())
        yield storage
    finally:
        await client.close()


async def _prepare(made: Coroutine[Any, Any, None]) -> None:
    """Make what the storage needs; left to the next who opens it if its server is away."""
    try:
        await made
    except Unavailable as error:
        _log.warning("chats.not_prepared", cause=str(error))


def _mongo_library() -> Any:
    try:
        return importlib.import_module("pymongo")
    except ImportError as problem:
        raise Invalid(
            "ARBE_CHATS_URL names a MongoDB, and pymongo is not installed.",
            next_step="pip install 'arbe-dispatch[mongo]'.",
        ) from problem


@dataclasses.dataclass
class _Lender:
    """Our own pool, in the shape of psycopg_pool's."""

    database: engine.Engine

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        return engine.borrow(self.database)
