"""What ChatManager promises, over every storage."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from dispatch.chats import ChatAlreadyClosed, ChatExists, ChatManager, ChatNotFound
from dispatch.errors import Invalid

METADATA = {
    "framework": "langchain",
    "framework_thread_id": "thread-xyz789",
    "empty": [],
    "none": None,
    "nested": {"a.b": {"$c": [1, 2.5, 2**53 + 1, "ä\U0001f600"]}},
    "$dollar": "$status",
    "with.dot": True,
    "": "no name",
}


def moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    assert found.tzinfo is not None
    return found


async def test_a_new_chat_is_the_documented_record(chats: ChatManager) -> None:
    chat = await chats.create_chat("requesting-agent", "chat-abc123", METADATA)
    assert list(chat) == [
        "chatId", "status", "targetAgent", "metadata", "createdAt", "updatedAt",
    ]  # fmt: skip
    assert chat["chatId"] == "chat-abc123"
    assert chat["status"] == "ACTIVE"
    assert chat["targetAgent"] == "requesting-agent"
    assert chat["metadata"] == METADATA
    assert abs(moment(chat["createdAt"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert chat["updatedAt"] == chat["createdAt"]
    assert await chats.get_chat("chat-abc123") == chat
    json.dumps(chat)


async def test_chosen_ids_have_128_random_bits(chats: ChatManager) -> None:
    ids = {(await chats.create_chat("a"))["chatId"] for _ in range(20)}
    assert len(ids) == 20
    assert all(len(each) == len("chat-") + 32 for each in ids)


async def test_an_id_that_is_taken_is_refused_closed_or_not(chats: ChatManager) -> None:
    made = await chats.create_chat("a", "one", {"whose": "first"})
    with pytest.raises(ChatExists) as refused:
        await chats.create_chat("b", "one", {"whose": "second"})
    assert refused.value.code == "chat_exists"
    assert await chats.get_chat("one") == made
    closed = await chats.close_chat("one")
    with pytest.raises(ChatExists):
        await chats.create_chat("b", "one")
    assert await chats.get_chat("one") == closed


async def test_of_racing_creates_one_makes_the_chat(chats: ChatManager) -> None:
    made = await asyncio.gather(
        *(chats.create_chat(f"agent-{i}", "race") for i in range(20)), return_exceptions=True
    )
    winners = [each for each in made if isinstance(each, dict)]
    assert len(winners) == 1
    assert sum(isinstance(each, ChatExists) for each in made) == 19
    assert await chats.get_chat("race") == winners[0]


async def test_metadata_is_merged_key_by_key(chats: ChatManager) -> None:
    await chats.create_chat("a", "one", {"keep": 1, "change": {"old": True}})
    merged = await chats.update_metadata("one", {"change": {"new": "$status"}, "more": []})
    assert merged["metadata"] == {"keep": 1, "change": {"new": "$status"}, "more": []}
    assert moment(merged["updatedAt"]) >= moment(merged["createdAt"])
    assert await chats.get_chat("one") == merged
    assert (await chats.update_metadata("one", {}))["metadata"] == merged["metadata"]


async def test_what_is_answered_is_not_the_storages_own(chats: ChatManager) -> None:
    chat = await chats.create_chat("a", "one", {"list": [1]})
    chat["metadata"]["list"].append(2)
    assert (await chats.get_chat("one"))["metadata"] == {"list": [1]}


async def test_concurrent_merges_all_hold(chats: ChatManager) -> None:
    await chats.create_chat("a", "one")
    await asyncio.gather(*(chats.update_metadata("one", {f"k{i}": i}) for i in range(50)))
    assert (await chats.get_chat("one"))["metadata"] == {f"k{i}": i for i in range(50)}


async def test_a_closed_chat_tells_when_and_why_and_stays_closed(chats: ChatManager) -> None:
    await chats.create_chat("a", "one", {"k": 1})
    closed = await chats.close_chat("one", reason="done with it")
    assert closed["status"] == "CLOSED"
    assert closed["reason"] == "done with it"
    kept = moment(closed["expiresAt"]) - moment(closed["closedAt"])
    assert kept == timedelta(days=1)
    assert await chats.get_chat("one") == closed
    with pytest.raises(ChatAlreadyClosed) as refused:
        await chats.close_chat("one", reason="again")
    assert refused.value.code == "chat_already_closed"
    with pytest.raises(ChatAlreadyClosed):
        await chats.update_metadata("one", {"k": 2})
    assert await chats.get_chat("one") == closed


async def test_a_chat_may_be_closed_without_a_reason(chats: ChatManager) -> None:
    await chats.create_chat("a", "one")
    assert "reason" not in await chats.close_chat("one")


async def test_of_fifty_racing_closes_one_wins(chats: ChatManager) -> None:
    await chats.create_chat("a", "one")
    closed = await asyncio.gather(
        *(chats.close_chat("one", f"r{i}") for i in range(50)), return_exceptions=True
    )
    assert sum(isinstance(each, ChatAlreadyClosed) for each in closed) == 49
    (winner,) = (each for each in closed if isinstance(each, dict))
    assert await chats.get_chat("one") == winner


async def test_a_merge_never_opens_a_chat_again(chats: ChatManager) -> None:
    await chats.create_chat("a", "one")
    merges = [chats.update_metadata("one", {f"k{i}": i}) for i in range(20)]
    done = await asyncio.gather(*merges, chats.close_chat("one"), return_exceptions=True)
    chat = await chats.get_chat("one")
    assert chat["status"] == "CLOSED"
    assert "expiresAt" in chat
    held = [each for each in done[:-1] if isinstance(each, dict)]
    assert len(chat["metadata"]) == len(held)


@pytest.mark.parametrize("chat_id", ["never", "", "x" * 301, "a\x00b", "\ud800", "ü/ß \n"])
async def test_an_unknown_chat_is_not_found(chats: ChatManager, chat_id: str) -> None:
    for call in (
        chats.get_chat(chat_id),
        chats.update_metadata(chat_id, {"k": 1}),
        chats.close_chat(chat_id),
    ):
        with pytest.raises(ChatNotFound) as refused:
            await call
        assert refused.value.code == "chat_not_found"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"chat_id": ""}, id="no id"),
        pytest.param({"chat_id": "x" * 301}, id="long id"),
        pytest.param({"chat_id": "a\x00b"}, id="NUL in the id"),
        pytest.param({"target_agent": "\ud800"}, id="half a character"),
        pytest.param({"metadata": {"k": "a\x00b"}}, id="NUL in metadata"),
        pytest.param({"metadata": {"k": object()}}, id="no JSON"),
        pytest.param({"metadata": {"k": "\ud800"}}, id="half a character in metadata"),
        pytest.param({"metadata": {"k": "x" * 70_000}}, id="long metadata"),
        pytest.param({"metadata": [1]}, id="a list"),
        pytest.param({"metadata": {"k": 2**70}}, id="a number of 71 bits"),
    ],
)
async def test_what_cannot_be_stored_is_refused_alike(
    chats: ChatManager, wrong: dict[str, object]
) -> None:
    with pytest.raises(Invalid):
        await chats.create_chat(**{"target_agent": "a", "chat_id": "one", **wrong})
    assert await chats.get_active_chats() == []


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12])
async def test_a_time_that_is_none_is_refused(chats: ChatManager, seconds: float) -> None:
    await chats.create_chat("a", "one")
    with pytest.raises(Invalid):
        await chats.close_chat("one", ttl_seconds=seconds)
    with pytest.raises(Invalid):
        await chats.cleanup_old_chats(seconds)
    assert (await chats.get_chat("one"))["status"] == "ACTIVE"


async def test_active_chats_are_listed_by_id_closed_ones_are_not(chats: ChatManager) -> None:
    for each in ("b/2", "a/1", "b/1", "b", "c/1", "bb"):
        await chats.create_chat("a", each)
    await chats.close_chat("b/1")
    found = await chats.get_active_chats()
    assert [each["chatId"] for each in found] == ["a/1", "b", "b/2", "bb", "c/1"]
    assert found[0] == await chats.get_chat("a/1")
    assert [each["chatId"] for each in await chats.get_active_chats(prefix="b/")] == ["b/2"]
    assert [each["chatId"] for each in await chats.get_active_chats(prefix="b")] == [
        "b", "b/2", "bb",
    ]  # fmt: skip


async def test_a_listing_goes_through_all_its_pages(
    chats: ChatManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatch.chats.manager.PAGE_SIZE", 4)
    for prefix in ("", "a"):
        for i in range(8):
            await chats.create_chat("a", f"{prefix}{i}")
    await chats.create_chat("a", "a")
    assert len(await chats.get_active_chats()) == 17
    assert len(await chats.get_active_chats(prefix="a")) == 9


async def test_a_chat_past_its_time_is_not_there_and_its_id_is_free(chats: ChatManager) -> None:
    await chats.create_chat("a", "one", {"old": 1})
    await chats.close_chat("one", "gone at once", ttl_seconds=0)
    with pytest.raises(ChatNotFound):
        await chats.get_chat("one")
    with pytest.raises(ChatNotFound):
        await chats.close_chat("one")
    with pytest.raises(ChatNotFound):
        await chats.update_metadata("one", {"k": 1})
    again = await chats.create_chat("b", "one", {"new": 1})
    assert again["metadata"] == {"new": 1}
    assert again["status"] == "ACTIVE"
    assert "reason" not in again
    assert await chats.cleanup_old_chats() == 0
    assert await chats.get_chat("one") == again


async def test_a_chat_lives_as_long_as_its_own_time_says(chats: ChatManager) -> None:
    for chat_id, ttl_seconds in (("usual", 86_400), ("short", 3600), ("long", 7 * 86_400)):
        await chats.create_chat("a", chat_id)
        closed = await chats.close_chat(chat_id, ttl_seconds=ttl_seconds)
        kept = moment(closed["expiresAt"]) - moment(closed["closedAt"])
        assert kept == timedelta(seconds=ttl_seconds)
    await chats.create_chat("a", "active")
    assert await chats.cleanup_old_chats() == 0
    assert await chats.cleanup_old_chats(max_age_seconds=3600) == 0
    assert await chats.cleanup_old_chats(max_age_seconds=0) == 1
    with pytest.raises(ChatNotFound):
        await chats.get_chat("usual")
    for chat_id in ("short", "long", "active"):
        await chats.get_chat(chat_id)


async def test_a_cleanup_works_in_batches_and_twice_at_once(
    chats: ChatManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatch.chats.manager.PAGE_SIZE", 4)
    for i in range(30):
        await chats.create_chat("a", f"c{i}")
        await chats.close_chat(f"c{i}")
    await chats.create_chat("a", "active")
    assert await chats.storage.count_closed(max_age_seconds=0) == 30
    removed = await asyncio.gather(*(chats.cleanup_old_chats(0) for _ in range(2)))
    assert sum(removed) == 30
    assert await chats.storage.count_closed(max_age_seconds=0) == 0
    assert [each["chatId"] for each in await chats.get_active_chats()] == ["active"]
