"""The documents' examples, line by line, against our server: snippets.py has the long ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from dispatch.client import ArcRefusal, Client, ThreadManager
from dispatch.payloads.chat import Chat
from tests.documents import snippets
from tests.documents.conftest import System
from tests.documents.sockets import Talk, message, text_of, words
from tests.system.houses import Casa

LIMIT_SECONDS = 60.0


@pytest_asyncio.fixture
async def arc_client(system: System, casa: Casa) -> AsyncIterator[Client]:
    async with Client(endpoint=system.endpoint, token=casa.token) as client:
        yield client


@pytest.fixture
def thread_manager(arc_client: Client) -> ThreadManager:
    return ThreadManager(arc_client)


async def closed(client: Client, agent: str, chat_id: str) -> None:
    """Look until the chat is closed: only then is it -43002."""
    async with asyncio.timeout(LIMIT_SECONDS):
        with pytest.raises(ArcRefusal) as refused:  # noqa: PT012
            while True:
                await client.chat.message(agent, chat_id, message("say: still there"))
    assert refused.value.arc_code == -43002


async def test_send_to_agent(thread_manager: ThreadManager, casa: Casa):
    # First message - calls chat.start
    response = await thread_manager.send_to_agent(
        agent_id="support-agent",
        message={"role": "user", "parts": [{"type": "text", "content": "Help needed"}]},
        trace_id="trace-123",
    )
    first = response.result["chat"]
    assert response.to_dict()["traceId"] == "trace-123"
    assert "Help needed" in text_of(response)
    assert response.error is None

    # Second message - calls chat.message (reuses chat_id)
    response = await thread_manager.send_to_agent(
        agent_id="support-agent",
        message={"role": "user", "parts": [{"type": "text", "content": "More info"}]},
    )
    assert response["result"]["chat"]["chatId"] == first["chatId"]
    said = [each.payload for each in await casa.entries(first["metadata"]["threadId"])]
    assert [each.trace_id for each in said if isinstance(each, Chat)] == ["trace-123", None]


async def test_what_it_knows_and_how_it_ends(
    thread_manager: ThreadManager, arc_client: Client, capsys: pytest.CaptureFixture[str]
):
    assert not thread_manager.has_thread("support-agent")
    await thread_manager.send_to_agent("support-agent", message("say: x"))
    chat_id = thread_manager.get_thread_id("support-agent")
    if chat_id:
        print(f"Active chat: {chat_id}")  # noqa: T201
    if thread_manager.has_thread("support-agent"):
        print("Thread exists")  # noqa: T201
    agents = thread_manager.get_all_agents()
    print(f"Active agents: {agents}")  # noqa: T201
    assert capsys.readouterr().out.splitlines() == [
        f"Active chat: {chat_id}",
        "Thread exists",
        "Active agents: ['support-agent']",
    ]
    assert chat_id is not None

    await thread_manager.end_chat(agent_id="support-agent", reason="Issue resolved")
    assert not thread_manager.has_thread("support-agent")
    await closed(arc_client, "support-agent", chat_id)

    for agent in ("support", "finance"):
        await thread_manager.send_to_agent(agent, message("say: x"))
    await thread_manager.end_all_chats()
    assert thread_manager.get_thread_count() == 0
    await thread_manager.cleanup_all()


async def test_send_message(thread_manager: ThreadManager, casa: Casa):
    user_message, workflow_id = message("say: hello"), "w-1"
    response = await thread_manager.send_message(target_agent="agent-A", message=user_message)
    assert text_of(response) == "hello"
    again = await thread_manager.send_message("agent-A", user_message)
    assert again.result["chat"]["chatId"] == response.result["chat"]["chatId"]
    traced = await thread_manager.send_message(
        target_agent="agent-A", message=user_message, trace_id=workflow_id
    )
    assert traced["traceId"] == workflow_id
    await thread_manager.end_all_chats()


ANSWERING: list[tuple[Callable[[str, str], Any], Callable[[Any], Any]]] = [
    (snippets.fastapi_example, lambda frame: frame),
    (snippets.starlette_example, lambda frame: frame),
    (snippets.state_guide_example, lambda frame: frame),
    (snippets.multi_agent_example, lambda frame: frame["response"]),
]


@pytest.mark.parametrize(("example", "response"), ANSWERING)
async def test_the_websocket_examples_answer_and_clean_up(
    example: Callable[[str, str], Any],
    response: Callable[[Any], Any],
    system: System,
    casa: Casa,
    arc_client: Client,
):
    chats: dict[str, str] = {}
    async with snippets.serving_socket(example(system.endpoint, casa.token)) as url:
        async with Talk(url) as talk:
            for agent in ("support", "finance", "support"):
                await talk.ask(agent, f"say: {agent} here", trace_id="t-2")
                frame = response(await talk.hear())
                assert text_of(frame) == f"{agent} here"
                chat_id = frame["result"]["chat"]["chatId"]
                assert chats.setdefault(agent, chat_id) == chat_id
        for agent, chat_id in chats.items():
            await closed(arc_client, agent, chat_id)


async def test_the_streaming_example_streams_from_first_contact_on(
    system: System, casa: Casa, arc_client: Client
):
    app = snippets.streaming_example(system.endpoint, casa.token)
    async with snippets.serving_socket(app) as url:
        async with Talk(url) as talk:
            chats = set[str]()
            for text in ("say: one two three", "say: four five"):
                await talk.ask("support", text)
                frames = await talk.hear_until(lambda frame: frame["type"] != "content")
                assert words(frames) == text.removeprefix("say: ")
                assert frames[-1]["type"] == "done"
                chats.add(frames[-1]["data"]["chatId"])
            await talk.ask("nobody", "x")
            refused = await talk.hear()
            assert (refused["type"], refused["data"]["error"]["code"]) == ("error", -41001)
        [chat_id] = chats
        await closed(arc_client, "support", chat_id)
