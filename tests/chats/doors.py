"""The storages, each over a client of its own: for tests, and for their second process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import motor.motor_asyncio
import redis.asyncio
from psycopg_pool import AsyncConnectionPool
from pymongo import AsyncMongoClient

from dispatch.chats import (
    ChatStorage,
    MongoChatStorage,
    PostgreSQLChatStorage,
    RedisChatStorage,
)
from dispatch.chats.memory import MemoryChatStorage

SHARED = ("redis", "redis_decoded", "asyncpg", "psycopg_pool", "motor", "pymongo")
"""Kinds that several processes may use at once."""
KINDS = ("ram", *SHARED)
SCHEMA = "chats_suite"
"""Of the tables here: the catalog's own tests look at `public`."""


def server_of(kind: str) -> str:
    """Name the server that a kind needs."""
    match kind:
        case "asyncpg" | "psycopg_pool":
            return "postgres"
        case "motor" | "pymongo":
            return "mongo"
        case "redis" | "redis_decoded":
            return "redis"
        case _:
            return ""


@asynccontextmanager
async def opened(kind: str, url: str, name: str) -> AsyncIterator[ChatStorage]:
    """Open a storage of its own name, prepared as the documents show."""
    match kind:
        case "ram":
            yield MemoryChatStorage()
        case "redis" | "redis_decoded":
            client = redis.asyncio.Redis.from_url(url, decode_responses=kind == "redis_decoded")
            async with client:
                yield RedisChatStorage(client, key_prefix=f"{{{name}}}")
        case "asyncpg":
            async with asyncpg.create_pool(url, min_size=0, max_size=8) as pool:
                storage = PostgreSQLChatStorage(pool, table_name=f"{SCHEMA}.{name}")
                await storage.initialize_schema()
                yield storage
        case "psycopg_pool":
            async with AsyncConnectionPool(url, min_size=0, max_size=8, open=False) as pool:
                storage = PostgreSQLChatStorage(pool, table_name=f"{SCHEMA}.{name}")
                await storage.initialize_schema()
                yield storage
        case "motor":
            motors = motor.motor_asyncio.AsyncIOMotorClient(url)
            try:
                mongo = MongoChatStorage(motors.suite, collection_name=name)
                await mongo.initialize_indexes()
                yield mongo
            finally:
                motors.close()
        case _:
            async with AsyncMongoClient(url) as mongos:
                mongo = MongoChatStorage(mongos.suite, collection_name=name)
                await mongo.initialize_indexes()
                yield mongo
