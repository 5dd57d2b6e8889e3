"""ARBE_CHATS_URL: the storage that a process of our own opens."""

import pytest
from pydantic import SecretStr

from dispatch.chats import ChatManager, ChatNotFound, open_storage
from dispatch.chats.memory import MemoryChatStorage
from dispatch.config import Settings
from dispatch.errors import Invalid, Unavailable
from dispatch.operations.record import open_record
from dispatch.stores.postgres import engine
from tests.chats.test_storages import AWAY


def at(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"chats_url": SecretStr(url)})


@pytest.mark.parametrize("kind", ["ram", "redis", "psycopg_pool", "pymongo"], indirect=True)
async def test_each_kind_of_url_opens_a_storage(
    url: str, settings: Settings, name: str
) -> None:
    async with open_storage(at(settings, url)) as storage:
        assert not isinstance(storage, MemoryChatStorage)
        chats = ChatManager("arbe", storage)
        made = await chats.create_chat("a", f"member/{name}", {"k": [1]})
        await chats.close_chat(f"member/{name}", ttl_seconds=0)
    assert made["metadata"] == {"k": [1]}


@pytest.mark.parametrize("role", ["arbe_api", "arbe_worker"])
async def test_our_own_postgres_serves_both_roles(
    role: engine.Role, settings: Settings, name: str
) -> None:
    url = settings.database_url.get_secret_value()
    made = engine.make_engine(url, role=role, settings=settings)
    try:
        async with open_storage(settings, database=made) as storage:
            chats = ChatManager("arbe", storage)
            await chats.create_chat("a", name)
            await chats.update_metadata(name, {"k": 1})
            assert (await chats.close_chat(name))["metadata"] == {"k": 1}
            assert await chats.cleanup_old_chats(0) >= 1
            with pytest.raises(ChatNotFound):
                await chats.get_chat(name)
    finally:
        await made.dispose()


async def test_a_record_has_the_chats_of_its_house(settings: Settings, name: str) -> None:
    async with open_record(settings) as record:
        await record.chats.create_chat("a", name)
    async with open_record(settings) as record:
        assert (await record.chats.close_chat(name, ttl_seconds=0))["status"] == "CLOSED"


@pytest.mark.parametrize("scheme", ["redis", "postgresql", "mongodb"])
async def test_a_server_that_is_away_stops_no_process(scheme: str, settings: Settings) -> None:
    url = f"{scheme}://a@{AWAY}/b" if scheme == "postgresql" else f"{scheme}://{AWAY}"
    hasty = settings.model_copy(update={"database_timeout_seconds": 1.0})
    async with open_storage(at(hasty, url)) as storage:
        with pytest.raises(Unavailable):
            await storage.find("one")


@pytest.mark.parametrize("url", ["mysql://a/b", "no url", "http://a"])
async def test_a_url_that_names_no_storage_is_refused(url: str, settings: Settings) -> None:
    with pytest.raises(Invalid, match="ARBE_CHATS_URL"):
        async with open_storage(at(settings, url)):
            pass
