"""Two managers in two real processes over one storage: what one did, the other sees."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from dispatch.chats import ChatManager
from tests.chats import doors
from tests.chats.conftest import Other
from tests.chats.other import tried

pytestmark = pytest.mark.parametrize("kind", doors.SHARED, indirect=True)
Start = Callable[[], AbstractAsyncContextManager[Other]]


async def test_no_process_sees_what_was(chats: ChatManager, other: Start) -> None:
    async with other() as say:
        made = await chats.create_chat("a", "one", {"k": 1})
        assert await say("get_chat", {"chat_id": "one"}) == [made]
        (merged,) = await say("update_metadata", {"chat_id": "one", "metadata": {"m": 2}})
        assert await chats.get_chat("one") == merged
        closed = await chats.close_chat("one", "here")
        assert await say("get_chat", {"chat_id": "one"}) == [closed]
        assert await say("get_active_chats", {}) == [[]]
        assert await say("update_metadata", {"chat_id": "one", "metadata": {"n": 3}}) == [
            "ChatAlreadyClosed"
        ]
        assert await say("create_chat", {"target_agent": "b", "chat_id": "one"}) == [
            "ChatExists"
        ]
        assert await chats.get_chat("one") == closed
        assert await say("cleanup_old_chats", {"max_age_seconds": 0}) == [1]
        (again,) = await say("create_chat", {"target_agent": "b", "chat_id": "one"})
        assert await chats.get_chat("one") == again


async def test_of_fifty_closes_of_two_processes_one_wins(
    chats: ChatManager, other: Start
) -> None:
    async with other() as say, other() as say_too:
        for i in range(3):
            await chats.create_chat("a", f"race{i}")
            each = [{"chat_id": f"race{i}", "reason": f"{n}"} for n in range(25)]
            answers = await asyncio.gather(
                say("close_chat", *each), say_too("close_chat", *each)
            )
            flat: list[Any] = [*answers[0], *answers[1]]
            assert flat.count("ChatAlreadyClosed") == 49
            (winner,) = (one for one in flat if isinstance(one, dict))
            assert await chats.get_chat(f"race{i}") == winner


async def test_no_merge_of_two_processes_is_lost(chats: ChatManager, other: Start) -> None:
    await chats.create_chat("a", "one", {"first": True})
    ours = [{"chat_id": "one", "metadata": {f"a{i}": i, "both": i}} for i in range(100)]
    theirs = [{"chat_id": "one", "metadata": {f"b{i}": i, "both": i}} for i in range(100)]
    async with other() as say:
        done, _ = await asyncio.gather(
            say("update_metadata", *theirs),
            asyncio.gather(*(tried(chats, "update_metadata", each) for each in ours)),
        )
    assert all(isinstance(each, dict) for each in done)
    found = (await chats.get_chat("one"))["metadata"]
    assert found.pop("both") in range(100)
    expected = {f"{who}{i}": i for who in "ab" for i in range(100)}
    assert found == {"first": True, **expected}
