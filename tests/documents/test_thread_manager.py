"""ThreadManager over our client, our API and a real worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dispatch.client import ARCEvent, ArcRefusal, Client, ThreadManager
from dispatch.errors import Invalid, Unauthenticated, Unavailable
from tests.api.loopback import losing_answers, serving
from tests.documents.conftest import System
from tests.documents.sockets import message, text_of
from tests.system.houses import Casa


@pytest_asyncio.fixture
async def client(system: System, casa: Casa) -> AsyncIterator[Client]:
    async with Client(endpoint=system.endpoint, token=casa.token) as made:
        yield made


@pytest.fixture
def threads(client: Client) -> ThreadManager:
    return ThreadManager(client)


async def streamed(threads: ThreadManager, agent: str, text: str) -> list[ARCEvent]:
    return [
        event async for event in await threads.send_to_agent(agent, message(text), stream=True)
    ]


def words(events: list[ARCEvent]) -> str:
    return "".join(
        each.data["message"]["parts"][0]["content"]
        for each in events
        if each.event == "content"
    )


async def chat_count(client: Client) -> int:
    return len((await client.threads.list())["threads"])


async def test_the_first_contact_may_be_a_stream(threads: ThreadManager):
    events = await streamed(threads, "demo", "say: one two three")
    assert words(events) == "one two three"
    assert [each.event for each in events][-1] == "done"
    assert events[0]["event"] == "content"
    assert events[0]["data"]["chatId"] == threads.get_thread_id("demo")
    assert words(await streamed(threads, "demo", "say: more")) == "more"


@pytest.mark.parametrize("stream", [False, True])
async def test_five_first_messages_at_once_start_one_chat(
    threads: ThreadManager, client: Client, stream: bool
):
    before = await chat_count(client)

    async def say(number: int) -> str:
        if stream:
            return words(await streamed(threads, "demo", f"say: {number}"))
        return text_of(await threads.send_to_agent("demo", message(f"say: {number}")))

    answers = await asyncio.gather(*(say(number) for number in range(5)))
    assert answers == ["0", "1", "2", "3", "4"]
    assert await chat_count(client) == before + 1
    assert threads.get_thread_count() == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ["lost", "closed"])
async def test_a_chat_that_is_gone_is_replaced_by_one_new_one(
    threads: ThreadManager, client: Client, way: str, stream: bool
):
    if way == "lost":
        threads.store_thread_id("demo", "chat-that-never-was")
    else:
        await threads.send_to_agent("demo", message("say: x"))
        await client.chat.end("demo", str(threads.get_thread_id("demo")))
    old, before = threads.get_thread_id("demo"), await chat_count(client)
    if stream:
        assert words(await streamed(threads, "demo", "say: healed")) == "healed"
    else:
        answers = await asyncio.gather(
            *(threads.send_to_agent("demo", message("say: healed")) for _ in range(3))
        )
        assert [text_of(each) for each in answers] == ["healed"] * 3
    assert threads.get_thread_id("demo") not in {old, None}
    assert await chat_count(client) == before + 1


async def test_refusals_have_the_protocols_codes_and_start_no_chat(threads: ThreadManager):
    with pytest.raises(ArcRefusal) as unknown:
        await threads.send_to_agent("nobody", message("x"))
    assert unknown.value.arc_code == -41001
    [event] = await streamed(threads, "nobody", "x")
    assert (event.event, event.data["error"]["code"]) == ("error", -41001)
    with pytest.raises(ArcRefusal) as invalid:
        await threads.send_to_agent("demo", {"role": "user"})
    assert invalid.value.arc_code == -32602
    assert threads.get_all_agents() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_that_fails_leaves_its_chat(threads: ThreadManager, stream: bool):
    if stream:
        [event] = await streamed(threads, "demo", "fail: no paper")
        assert "no paper" in event.data["error"]["message"]
    else:
        with pytest.raises(ArcRefusal, match="no paper"):
            await threads.send_to_agent("demo", message("fail: no paper"))
    chat_id = threads.get_thread_id("demo")
    assert chat_id is not None
    answer = await threads.send_to_agent("demo", message("say: x"))
    assert answer.result["chat"]["chatId"] == chat_id


async def test_ending_what_is_not_open_is_no_error(threads: ThreadManager, client: Client):
    assert await threads.end_chat("demo") is None
    await threads.send_to_agent("demo", message("say: x"))
    await client.chat.end("demo", str(threads.get_thread_id("demo")))
    assert await threads.end_thread("demo", reason="again") is None
    assert not threads.has_thread("demo")


async def test_all_chats_are_ended_and_what_could_not_be_is_told_and_kept(
    threads: ThreadManager, client: Client
):
    for agent in ("demo", "support", "finance"):
        await threads.send_to_agent(agent, message("say: x"))
    end = client.chat.end

    async def ending(target_agent: str, chat_id: str, **more: Any) -> Any:
        if target_agent == "support":
            raise RuntimeError("a client of somebody else")
        return await end(target_agent, chat_id, **more)

    client.chat.end = ending  # type: ignore[method-assign]
    told = await threads.end_all_chats(reason="bye")
    assert told == {"demo": True, "support": False, "finance": True}
    assert threads.get_all_agents() == ["support"]
    client.chat.end = end  # type: ignore[method-assign]
    assert await threads.cleanup_all() == {"support": True}
    assert await threads.end_all_chats() == {}


async def test_a_session_that_ends_while_it_starts_a_chat_ends_that_too(
    threads: ThreadManager, client: Client
):
    asked = asyncio.create_task(threads.send_to_agent("demo", message("sleep: 1")))
    while not threads._starting["demo"].locked():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await threads.end_all_chats() == {"demo": True}
    chat_id = (await asked).result["chat"]["chatId"]
    with pytest.raises(ArcRefusal) as closed:
        await client.chat.message("demo", chat_id, message("x"))
    assert closed.value.arc_code == -43002


async def test_mappings_can_be_carried_from_one_session_to_the_next(
    threads: ThreadManager, client: Client
):
    await threads.send_to_agent("demo", message("say: x"))
    chat_id = threads.remove_thread_id("demo")
    assert threads.remove_thread_id("demo") is None
    later = ThreadManager(client)
    later.store_thread_id("demo", str(chat_id))
    answer = await later.send_to_agent("demo", message("say: y"))
    assert answer.result["chat"]["chatId"] == chat_id
    later.clear()
    assert later.get_thread_count() == 0


async def test_what_got_no_answer_is_repeated_and_said_once(
    threads: ThreadManager, client: Client, system: System, casa: Casa
):
    first = await threads.send_to_agent("demo", message("say: x"))
    thread_id = first.result["chat"]["metadata"]["threadId"]
    async with (
        losing_answers(system.url, losses=0) as proxy,
        Client(endpoint=f"{proxy.url}/arc", token=casa.token) as unlucky,
    ):
        manager = ThreadManager(unlucky)
        manager.store_thread_id("demo", str(threads.get_thread_id("demo")))
        proxy.losses = 2
        assert text_of(await manager.send_to_agent("demo", message("say: y"))) == "y"
        before, proxy.losses = await chat_count(client), 2
        assert text_of(await manager.send_to_agent("support", message("say: z"))) == "z"
        assert await chat_count(client) == before + 1
        proxy.losses = 1
        with pytest.raises(Unavailable):
            await streamed(manager, "support", "say: not repeated")
    said = await client.entries.list(thread_id)
    texts = [each["payload"]["text"] for each in said["entries"] if "text" in each["payload"]]
    assert texts == ["say: x", "say: y"]


async def test_tokens_and_addresses_are_refused_as_everywhere(system: System):
    async with Client(endpoint=system.endpoint, token="arbe_owner_none") as stranger:
        threads = ThreadManager(stranger)
        with pytest.raises(Unauthenticated):
            await threads.send_to_agent("demo", message("x"))
        with pytest.raises(Unauthenticated):
            await streamed(threads, "demo", "x")
        with pytest.raises(Unauthenticated):
            await stranger.threads.list()
    for wrong in ({}, {"url": system.url, "endpoint": system.endpoint}):
        with pytest.raises(Invalid, match="address"):
            Client(token="t", **wrong)


async def test_one_client_speaks_both_ways(client: Client, system: System, casa: Casa):
    assert client.url == system.url
    assert (await client.health())["status"] == "ok"
    async with Client(system.url, casa.token) as other:
        answer = await other.chat.start("demo", message("say: x"))
        assert text_of(answer) == "x"


def event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def foreign(request: Request) -> Response:
    """Serve the protocol as others do: refusals by HTTP status, a stream that breaks."""
    call = await request.json()
    if call["params"].get("chatId") == "old":
        error = {"code": -43001, "message": "gone", "details": {"chatId": "old"}}
        return JSONResponse({"arc": "1.0", "id": call["id"], "error": error}, status_code=400)
    if not call["params"].get("stream"):
        chat = {"chatId": "new", "status": "ACTIVE"}
        answer = {"arc": "1.0", "id": call["id"], "result": {"type": "chat", "chat": chat}}
        return JSONResponse(answer)

    async def body() -> AsyncIterator[bytes]:
        yield event("stream", {"chatId": "new", "message": {"parts": []}})

    return StreamingResponse(body(), media_type="text/event-stream")


async def test_other_servers_of_the_protocol_are_understood():
    app = Starlette(routes=[Route("/rpc", foreign, methods=["POST"])])
    async with serving(app) as url, Client(endpoint=f"{url}/rpc", token=None) as client:
        threads = ThreadManager(client)
        threads.store_thread_id("a", "old")
        answer = await threads.send_to_agent("a", message("x"))
        assert answer.result["chat"]["chatId"] == threads.get_thread_id("a") == "new"
        threads.store_thread_id("a", "old")
        events = await streamed(threads, "a", "x")
        assert [each.event for each in events] == ["content", "error"]
        assert events[-1].data["error"]["code"] == -43005
        assert threads.get_thread_id("a") == "new"
