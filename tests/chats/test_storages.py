"""What each storage does in its own way, and how it meets what is not its own."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import redis.asyncio
from bson import ObjectId
from psycopg_pool import AsyncConnectionPool
from pymongo import AsyncMongoClient

from dispatch.chats import (
    ChatManager,
    ChatNotFound,
    ChatStorage,
    MongoChatStorage,
    PostgreSQLChatStorage,
    RedisChatStorage,
)
from dispatch.errors import Invalid, Unavailable
from tests.chats import doors

Redis = redis.asyncio.Redis
in_redis = pytest.mark.parametrize("kind", ["redis"], indirect=True)
in_mongo = pytest.mark.parametrize("kind", ["pymongo"], indirect=True)
AWAY = "127.0.0.1:9"
COLUMNS = """
    select column_name, data_type, is_nullable, column_default, collation_name
    from information_schema.columns where table_name = %(table)s order by ordinal_position"""
CONSTRAINTS = """
    select replace(conname, %(table)s, ''), pg_get_constraintdef(c.oid)
    from pg_constraint c join pg_class t on t.oid = conrelid where relname = %(table)s
    order by 1"""
INDEXES = """
    select replace(indexname, %(table)s, ''),
        replace(replace(indexdef, %(table)s, ''), schemaname, '')
    from pg_indexes where tablename = %(table)s order by 1"""


@pytest_asyncio.fixture
async def client(stream_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(stream_url, decode_responses=True) as opened:
        yield opened


@pytest_asyncio.fixture
async def admin(postgres_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as opened:
        yield opened


@in_redis
async def test_redis_removes_a_closed_chat_by_itself(
    chats: ChatManager, client: Redis, name: str
) -> None:
    for chat_id in ("active", "usual", "short", "shortest"):
        await chats.create_chat("a", chat_id)
    await chats.close_chat("usual")
    await chats.close_chat("short", ttl_seconds=600)
    await chats.close_chat("shortest", ttl_seconds=0.05)
    key = f"{{{name}}}:chat:"
    assert await client.pttl(f"{key}active") == -1
    assert 86_300_000 < await client.pttl(f"{key}usual") <= 86_400_000
    assert 500_000 < await client.pttl(f"{key}short") <= 600_000
    async with asyncio.timeout(30):
        while await client.exists(f"{key}shortest"):  # noqa: ASYNC110 - Redis's own clock
            await asyncio.sleep(0.02)
    with pytest.raises(ChatNotFound):
        await chats.get_chat("shortest")


@in_redis
async def test_redis_values_that_are_no_chats_break_nothing(
    chats: ChatManager, client: Redis, name: str
) -> None:
    for chat_id in ("a", "b", "c", "d", "e", "f"):
        await chats.create_chat("a", chat_id)
    key, index = f"{{{name}}}:chat:", f"{{{name}}}:chats:active"
    await client.delete(f"{key}a", f"{key}b")
    await client.set(f"{key}b", "not a hash")
    await client.hset(f"{key}c", "metadata:k", "{no json")
    await client.hset(f"{key}d", "createdAt", "yesterday")
    await client.hdel(f"{key}e", "targetAgent")
    assert [each["chatId"] for each in await chats.get_active_chats()] == ["f"]
    assert await client.zscore(index, "a") is None
    for chat_id in ("b", "c", "d", "e"):
        with pytest.raises(Invalid, match="Redis holds"):
            await chats.get_chat(chat_id)


@in_mongo
async def test_mongo_removes_closed_chats_by_itself_and_no_others(
    chats: ChatManager, mongo_url: str, name: str
) -> None:
    for chat_id in ("active", "usual", "short"):
        await chats.create_chat("a", chat_id)
    await chats.close_chat("usual")
    await chats.close_chat("short", ttl_seconds=0.1)
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as opened:
        found = opened.suite[name]
        async with asyncio.timeout(90):
            while await found.count_documents({"_id": "short"}):  # noqa: ASYNC110 - mongod's
                await asyncio.sleep(0.1)
        assert await found.count_documents({}) == 2


@in_mongo
async def test_mongo_documents_that_are_no_chats_break_nothing(
    chats: ChatManager, mongo_url: str, name: str
) -> None:
    await chats.create_chat("a", "good")
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as opened:
        moment = datetime.now(UTC)
        chat = {"targetAgent": "a", "metadata": {}, "createdAt": moment, "updatedAt": moment}
        await opened.suite[name].insert_many(
            [
                {"_id": "bare", "status": "ACTIVE"},
                {"_id": 7, "status": "ACTIVE", **chat},
                {"_id": "list", "status": "ACTIVE", **chat, "metadata": []},
                {"_id": "odd", "status": "ACTIVE", **chat, "metadata": {"k": ObjectId()}},
            ]
        )
    assert [each["chatId"] for each in await chats.get_active_chats()] == ["good"]
    with pytest.raises(Invalid, match="MongoDB holds"):
        await chats.get_chat("bare")


async def test_mongos_indexes_are_made_once(mongo_url: str, name: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as opened:
        storage = MongoChatStorage(opened.suite, collection_name=name)
        await asyncio.gather(*(storage.initialize_indexes() for _ in range(4)))
        names = {each["name"] async for each in await opened.suite[name].list_indexes()}
    assert names == {"_id_", "arc_expires_at", "arc_active"}


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg_pool"])
async def test_many_may_make_the_schema_at_once(
    kind: str, chats_postgres_url: str, name: str
) -> None:
    async def opened() -> None:
        async with doors.opened(kind, chats_postgres_url, name) as storage:
            await ChatManager("a", storage).create_chat("a")

    await asyncio.gather(*(opened() for _ in range(4)))


async def test_the_schema_is_that_of_the_migration(
    chats_postgres_url: str, name: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    async with doors.opened("psycopg_pool", chats_postgres_url, name):
        for query in (COLUMNS, CONSTRAINTS, INDEXES):
            ours, migrated = [
                await (await admin.execute(query, {"table": table})).fetchall()
                for table in (name, "arc_chats")
            ]
            assert ours == migrated
            assert ours


async def test_moments_are_in_utc_whatever_the_sessions_zone(
    chats_postgres_url: str, name: str
) -> None:
    zone = {"options": "-c timezone=Asia/Tokyo"}
    async with AsyncConnectionPool(chats_postgres_url, open=False, kwargs=zone) as pool:
        storage = PostgreSQLChatStorage(pool, table_name=f"{doors.SCHEMA}.{name}")
        await storage.initialize_schema()
        chat = await ChatManager("a", storage).create_chat("a")
    assert chat["createdAt"].endswith("Z")


async def test_a_table_that_is_not_there_or_anothers_is_told(
    chats_postgres_url: str, name: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    table_name = f"{doors.SCHEMA}.{name}"
    async with AsyncConnectionPool(chats_postgres_url, open=False) as pool:
        storage = PostgreSQLChatStorage(pool, table_name=table_name)
        with pytest.raises(Invalid, match="initialize_schema"):
            await storage.find("one")
        # As arc-sdk 1.3.1 makes it, whose columns take no aware moments.
        await admin.execute(
            f"create table {table_name} (chat_id text primary key, status text,"
            " target_agent text, metadata jsonb, created_at timestamp, updated_at timestamp,"
            " closed_at timestamp)"
        )
        with pytest.raises(Invalid, match="table_name"):
            await ChatManager("a", storage).create_chat("a")


@pytest.mark.parametrize("table_name", ["", "a; drop table b", "A", '"a"', "a" * 60, "a.b.c"])
def test_a_name_that_is_no_tables_is_refused(table_name: str) -> None:
    with pytest.raises(Invalid, match="no name for a table"):
        PostgreSQLChatStorage(AsyncConnectionPool(open=False), table_name=table_name)


def test_what_is_no_pool_is_refused() -> None:
    with pytest.raises(Invalid, match="no pool"):
        PostgreSQLChatStorage(object())


@pytest_asyncio.fixture(params=["redis", "postgres", "mongo"])
async def away(request: pytest.FixtureRequest) -> AsyncIterator[ChatStorage]:
    """A storage whose server does not answer."""
    match request.param:
        case "redis":
            async with Redis.from_url(f"redis://{AWAY}") as opened:
                yield RedisChatStorage(opened)
        case "postgres":
            url = f"postgresql://a@{AWAY}/b"
            pool = AsyncConnectionPool(url, open=False, min_size=0, max_size=1, timeout=0.5)
            async with pool:
                yield PostgreSQLChatStorage(pool)
        case _:
            async with AsyncMongoClient[dict[str, Any]](
                f"mongodb://{AWAY}", serverSelectionTimeoutMS=100
            ) as mongos:
                yield MongoChatStorage(mongos.suite)


async def test_a_server_that_is_away_is_unavailable(away: ChatStorage) -> None:
    chats = ChatManager("a", away)
    for call in (
        chats.create_chat("a"),
        chats.get_chat("one"),
        chats.update_metadata("one", {}),
        chats.close_chat("one"),
        chats.get_active_chats(),
        chats.cleanup_old_chats(0),
    ):
        with pytest.raises(Unavailable):
            await call


async def test_a_login_that_makes_no_tables_may_use_one_that_is_there(
    chats_postgres_url: str, name: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    table_name = f"{doors.SCHEMA}.{name}"
    async with doors.opened("psycopg_pool", chats_postgres_url, name):
        await admin.execute(f"grant usage on schema {doors.SCHEMA} to arbe_api")
        await admin.execute(f"grant select, insert, update on {table_name} to arbe_api")
        plain = {"options": "-c role=arbe_api"}
        async with AsyncConnectionPool(chats_postgres_url, open=False, kwargs=plain) as pool:
            storage = PostgreSQLChatStorage(pool, table_name=table_name)
            await storage.initialize_schema()
            await ChatManager("a", storage).create_chat("a")
            denied = PostgreSQLChatStorage(pool, table_name=f"{table_name}_too")
            with pytest.raises(Invalid, match="permission denied"):
                await denied.initialize_schema()
