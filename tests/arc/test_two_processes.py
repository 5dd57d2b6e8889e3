"""Two API processes over each storage of chats: what one did, the other knows."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from dispatch.client import Client
from dispatch.client.arc_answers import ArcRefusal
from tests.arc.conftest import ArcSystem
from tests.chats.conftest import mongo_url  # noqa: F401 - a fixture
from tests.system.conftest import free_port, with_db
from tests.system.houses import Casa
from tests.system.processes import Processes

HELLO = {"role": "user", "parts": [{"type": "TextPart", "content": "hello"}]}
CLOSED = -43002


@pytest.fixture(params=["postgres", "redis", "mongo"])
def chats_url(request: pytest.FixtureRequest, stream_url: str) -> str:
    """Where the chats are; empty: in our own Postgres."""
    match request.param:
        case "postgres":
            return ""
        case "redis":
            return with_db(stream_url, 9)
        case _:
            return f"{request.getfixturevalue('mongo_url')}arc_{uuid.uuid4().hex[:8]}"


@pytest_asyncio.fixture
async def doors(
    arc_system: ArcSystem,
    casa: Casa,
    chats_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[list[Client]]:
    """A client of each of two API processes."""
    started = Processes(arc_system.settings, tmp_path_factory.mktemp("doors"))
    ports = [free_port(), free_port()]
    async with AsyncExitStack() as stack:
        stack.callback(started.end_all)
        for port in ports:
            started.start("dispatch.api", ARBE_API_PORT=str(port), ARBE_CHATS_URL=chats_url)
        clients = [
            await stack.enter_async_context(
                Client(f"http://127.0.0.1:{port}", casa.token, patience_seconds=60)
            )
            for port in ports
        ]
        for client in clients:
            assert (await client.health())["status"] == "ok"
        yield clients


async def _end(client: Client, chat_id: str) -> int:
    try:
        await client.chat.end("demo", chat_id, "enough")
    except ArcRefusal as refused:
        return refused.arc_code
    return 0


async def test_of_fifty_ends_over_two_processes_one_wins(doors: list[Client]) -> None:
    one, other = doors
    begun = await one.chat.start("demo", HELLO, metadata={"k": 1})
    chat_id = begun.result["chat"]["chatId"]
    again = await other.chat.message("demo", chat_id, HELLO)
    assert again.result["chat"]["chatId"] == chat_id

    ends = await asyncio.gather(*(_end(doors[n % 2], chat_id) for n in range(50)))

    assert sorted(ends) == [CLOSED] * 49 + [0]
    for client in doors:
        with pytest.raises(ArcRefusal) as refused:
            await client.chat.message("demo", chat_id, HELLO)
        assert refused.value.arc_code == CLOSED
