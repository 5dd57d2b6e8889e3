"""What a caller hears when the API goes away under a turn, and what becomes of the turn."""

import signal
from uuid import UUID

from dispatch.client import Client
from dispatch.ids import ThreadId
from tests.arc.conftest import ArcSystem
from tests.arc.wire import Wire, frames, message, request
from tests.system.conftest import free_port
from tests.system.houses import Casa


async def test_a_stream_ends_with_a_word_and_its_turn_goes_on(
    arc_system: ArcSystem, casa: Casa
):
    port = free_port()
    api = arc_system.processes.start("dispatch.api", ARBE_API_PORT=str(port))
    url = f"http://127.0.0.1:{port}"
    async with Client(url, casa.token, patience_seconds=60) as client:
        await client.health()
    wire = Wire(f"{url}/arc", casa.token)
    try:
        params = {"initialMessage": message("steps: 4 0.5"), "stream": True, "chatId": "c"}
        body = ""
        async with wire.http.stream(
            "POST", wire.endpoint, json=request("chat.start", params)
        ) as answer:
            async for text in answer.aiter_text():
                body += text
                if api.poll() is None and "event: stream" in body:
                    api.send_signal(signal.SIGTERM)
        *_, (name, told), (last, end) = frames(body)
        assert (name, told["error"]["code"]) == ("error", -41002)
        assert (last, end["status"], end["done"]) == ("done", "ERROR", True)
        api.wait(30)
    finally:
        await wire.http.aclose()
    # Another process knows the chat, and has seen its turn through.
    other = Wire(arc_system.endpoint, casa.token)
    try:
        params = {"chatId": "c", "message": message("say: still here")}
        found = await other.result("chat.message", params)
    finally:
        await other.http.aclose()
    assert found["chat"]["message"]["parts"][0]["content"] == "still here"
    said = await casa.types(ThreadId(UUID(found["chat"]["metadata"]["threadId"])))
    assert said.count("signal.dispatch.completed") == 2
