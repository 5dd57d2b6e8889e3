"""`/ws` by a real client against a real server and worker."""

import asyncio
import logging
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from dispatch.api import direct_socket
from dispatch.client import Client
from dispatch.operations import arc_chats, tokens
from dispatch.payloads.chat import Chat
from tests.documents.conftest import Serve, Served, System
from tests.documents.sockets import Talk, bearer, is_last, text_of, words
from tests.system.conftest import free_port
from tests.system.houses import Casa
from tests.system.processes import Processes

LIMIT_SECONDS = 60.0


async def status(served: Served, casa: Casa, chat_id: str) -> str:
    chat = await arc_chats.get(served.record, casa.who, chat_id)
    return str(chat["status"])


async def closed(served: Served, casa: Casa, *chat_ids: str) -> None:
    """Look until the chats are closed."""
    async with asyncio.timeout(LIMIT_SECONDS):
        for chat_id in chat_ids:
            while await status(served, casa, chat_id) != "CLOSED":  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def chat_of(frame: dict[str, Any]) -> str:
    chat_id: str = frame["result"]["chat"]["chatId"]
    return chat_id


async def test_an_answer_is_streamed_and_its_trace_id_stands_on_the_stream(
    serve: Serve, casa: Casa
):
    async with serve() as served, Talk(served.socket, **bearer(casa)) as talk:
        await talk.ask("demo", "say: one two three", trace_id="t-7", stream=True)
        frames = await talk.hear_until(is_last)
        assert words(frames) == "one two three"
        assert {(each["agent_id"], each["trace_id"]) for each in frames} == {("demo", "t-7")}
        done = frames[-1]
        assert done["type"] == "done"
        assert done["data"]["done"] is True
        assert done["data"]["message"]["parts"][0]["content"] == "one two three"
        chat = await arc_chats.get(served.record, casa.who, done["data"]["chatId"])
    thread_id = casa_thread(chat)
    said = [each.payload for each in await casa.entries(thread_id)]
    assert [each.trace_id for each in said if isinstance(each, Chat)] == ["t-7"]


async def test_without_a_stream_the_answer_reads_as_both_documents_show(
    serve: Serve, casa: Casa
):
    async with serve() as served, Talk(served.socket, **bearer(casa)) as talk:
        frame = await talk.answer("@demo", "say: hello", trace_id="t-8")
        assert text_of(frame) == "hello"
        assert text_of(frame["response"]) == "hello"
        assert (frame["agent_id"], frame["trace_id"]) == ("@demo", "t-8")
        assert (frame["type"], frame["arc"], frame["error"]) == ("response", "1.0", None)
        again = await talk.answer("demo", "say: again")
        assert chat_of(again) == chat_of(frame)


async def test_agents_answer_side_by_side_and_one_agent_in_order(serve: Serve, casa: Casa):
    async with serve() as served, Talk(served.socket, **bearer(casa)) as talk:
        await talk.ask("support", "sleep: 3")
        await talk.ask("support", "say: second")
        await talk.ask("finance", "say: meanwhile")
        frames = [await talk.hear() for _ in range(3)]
        assert [each["agent_id"] for each in frames] == ["finance", "support", "support"]
        assert text_of(frames[1]).endswith("Awake again.")
        assert text_of(frames[2]) == "second"


async def test_what_a_socket_opened_is_closed_when_it_ends(serve: Serve, casa: Casa):
    async with serve() as served:
        async with Talk(served.socket, **bearer(casa)) as talk:
            chats = [chat_of(await talk.answer(each, "say: x")) for each in ("hr", "support")]
            await talk.ask("finance", "sleep: 600", stream=True)
            chats.append((await talk.hear())["data"]["chatId"])
            assert [await status(served, casa, each) for each in chats] == ["ACTIVE"] * 3
        await closed(served, casa, *chats)
        chat = await arc_chats.get(served.record, casa.who, chats[-1])
        await casa.wait(casa_thread(chat), lambda types: types[-1].endswith("cancelled"))


async def test_a_socket_that_leaves_while_its_chat_is_opened_leaves_none_open(
    serve: Serve, casa: Casa, monkeypatch: pytest.MonkeyPatch
):
    begun, go_on = asyncio.Event(), asyncio.Event()
    opened = asyncio.get_running_loop().create_future()
    start = arc_chats.start

    async def slow(*given: Any, **named: Any) -> Any:
        begun.set()
        await go_on.wait()
        turn = await start(*given, **named)
        opened.set_result(turn.chat_id)
        return turn

    monkeypatch.setattr(arc_chats, "start", slow)
    async with serve() as served:
        async with Talk(served.socket, **bearer(casa)) as talk:
            await talk.ask("demo", "say: x")
            await begun.wait()
        go_on.set()
        await closed(served, casa, await asyncio.wait_for(opened, LIMIT_SECONDS))


async def test_a_server_that_ends_closes_its_sockets_and_their_chats(serve: Serve, casa: Casa):
    async with serve() as served, Talk(served.socket, **bearer(casa)) as talk:
        chat_id = chat_of(await talk.answer("demo", "say: x"))
        await served.app.state.sockets.close()
        assert await status(served, casa, chat_id) == "CLOSED"
        assert await talk.closed() == 1001
        async with Talk(served.socket, **bearer(casa)) as late:
            assert await late.closed() == 1013


async def test_a_quiet_socket_is_closed_but_not_while_it_waits(serve: Serve, casa: Casa):
    async with (
        serve(ws_idle_seconds=0.5) as served,
        Talk(served.socket, **bearer(casa)) as talk,
    ):
        frame = await talk.answer("demo", "mute: 2")
        assert frame["type"] == "response"
        assert await talk.closed() == 4408
        await closed(served, casa, chat_of(frame))


async def test_a_chat_that_was_ended_elsewhere_is_replaced(serve: Serve, casa: Casa):
    async with serve() as served, Talk(served.socket, **bearer(casa)) as talk:
        first = chat_of(await talk.answer("demo", "say: x"))
        await arc_chats.end(served.record, casa.who, chat_id=first)
        frame = await talk.answer("demo", "say: y")
        assert text_of(frame) == "y"
        assert chat_of(frame) != first


async def test_what_cannot_be_read_is_told_and_the_socket_stays(serve: Serve, casa: Casa):
    async with serve() as served, Talk(served.socket, **bearer(casa)) as talk:
        for bad in (
            "{",
            "[]",
            "\x00",
            '{"agent_id": "demo"}',
            '{"agent_id": "demo", "message": "hello"}',
            '{"agent_id": "demo", "message": {}, "strem": true}',
            '{"agent_id": "demo", "message": {}, "stream": "yes"}',
            '{"agent_id": "demo", "message": {"role": "user", "parts": []}}',
        ):
            await talk.socket.send(bad)
            frame = await talk.hear()
            assert frame["type"] == "error", bad
            assert frame["data"]["code"] == -32602
            assert " Send {" in frame["data"]["message"], frame
        unknown = await talk.answer("nobody", "hello", trace_id="t-1")
        assert (unknown["type"], unknown["data"]["code"]) == ("error", -41001)
        assert (unknown["agent_id"], unknown["trace_id"]) == ("nobody", "t-1")
        failed = await talk.answer("demo", "fail: no paper")
        assert "no paper" in failed["data"]["message"]
        assert text_of(await talk.answer("demo", "say: still here")) == "still here"


async def test_bytes_are_read_as_text(serve: Serve, casa: Casa):
    async with serve() as served, Talk(served.socket, **bearer(casa)) as talk:
        await talk.socket.send(b'{"agent_id": "demo"}')
        assert (await talk.hear())["type"] == "error"


async def test_more_than_a_socket_may_wait_for_is_refused(serve: Serve, casa: Casa):
    async with (
        serve(ws_max_waiting=2, ws_max_chats=2) as served,
        Talk(served.socket, **bearer(casa)) as talk,
    ):
        await talk.ask("support", "sleep: 2")
        await talk.ask("support", "say: second")
        refused = await talk.answer("support", "say: third")
        assert refused["type"] == "error"
        assert "ARBE_WS_MAX_WAITING" in refused["data"]["message"]
        assert [text_of(await talk.hear())[-6:] for _ in range(2)] == ["again.", "second"]
        assert text_of(await talk.answer("finance", "say: x")) == "x"
        third = await talk.answer("hr", "say: x")
        assert "ARBE_WS_MAX_CHATS" in third["data"]["message"]


async def test_an_agent_that_is_not_there_takes_no_place(serve: Serve, casa: Casa):
    async with (
        serve(ws_max_chats=1) as served,
        Talk(served.socket, **bearer(casa)) as talk,
    ):
        for name in ("nobody", "neither"):
            assert (await talk.answer(name, "x"))["data"]["code"] == -41001
        assert text_of(await talk.answer("demo", "say: x")) == "x"


async def test_limits_close_with_their_codes(serve: Serve, casa: Casa):
    async with (
        serve(ws_max_sockets=1, ws_max_message_bytes=2000) as served,
        Talk(served.socket, **bearer(casa)) as talk,
    ):
        async with Talk(served.socket, **bearer(casa)) as second:
            frame = await second.hear()
            assert "ARBE_WS_MAX_SOCKETS" in frame["data"]["message"]
            assert await second.closed() == 1013
        await talk.ask("demo", "x" * 3000)
        assert await talk.closed() == 1009


@pytest.mark.parametrize(("linger_seconds", "code"), [(60.0, 1008), (0.1, 1006)])
async def test_a_client_that_does_not_read_loses_its_socket(
    serve: Serve,
    casa: Casa,
    linger_seconds: float,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
):
    """It hears why if it reads again in time; else the connection is cut."""
    monkeypatch.setattr(direct_socket, "_LINGER_SECONDS", linger_seconds)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    narrow.bind(("127.0.0.1", 0))
    options = {**bearer(casa), "compression": None, "max_queue": 1}
    async with (
        serve(sockets=[narrow], ws_send_seconds=1.0) as served,
        Talk(served.socket, **options) as talk,
    ):
        chat_id = chat_of(await talk.answer("demo", "say: x"))
        talk.socket.transport.pause_reading()
        flood = asyncio.create_task(send_nonsense(talk))
        try:
            await closed(served, casa, chat_id)
            await asyncio.sleep(2 * linger_seconds if code == 1006 else 0)
        finally:
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)
        talk.socket.transport.resume_reading()
        assert await talk.closed() == code
    narrow.close()


async def send_nonsense(talk: Talk) -> None:
    """Each of them is answered by an error, which nobody reads."""
    for _ in range(100_000):
        await talk.socket.send("{")


async def test_the_token_comes_as_browsers_can_and_is_not_logged(
    serve: Serve, casa: Casa, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    token = casa.token
    ways: list[tuple[str, dict[str, Any]]] = [
        ("", bearer(casa)),
        ("", {"subprotocols": ["arbe", f"arbe.token.{token}"]}),
        (f"?access_token={token}", {}),
    ]
    async with serve() as served:
        for query, options in ways:
            async with Talk(served.socket + query, **options) as talk:
                assert talk.socket.subprotocol == (
                    "arbe" if "subprotocols" in options else None
                )
                assert text_of(await talk.answer("demo", "say: x")) == "x"
        async with Talk(served.socket) as talk:
            await talk.socket.send('{"agent_id": "demo", "message": {}}')
            assert "token" in (await talk.hear())["data"]["message"]
            await talk.send(token=token)
            assert text_of(await talk.answer("demo", "say: x")) == "x"
    lines = [each.getMessage() for each in caplog.records if "websockets" not in each.name]
    assert any("accepted" in each for each in lines)
    assert not [each for each in lines if token in each]


@pytest.mark.parametrize("token", ["arbe_member_unknown", "", "nonsense"])
async def test_without_a_living_token_there_is_no_socket(serve: Serve, casa: Casa, token: str):
    async with serve(ws_token_seconds=0.3) as served:
        headers = {"Authorization": f"Bearer {token}"}
        async with Talk(served.socket, additional_headers=headers) as talk:
            assert (await talk.hear())["data"]["code"] == -44001
            assert await talk.closed() == 4401
        async with Talk(served.socket) as talk:
            if token:
                await talk.send(token=token)
            assert await talk.closed() == 4401


async def test_a_revoked_token_ends_its_socket_with_the_next_message(serve: Serve, casa: Casa):
    async with serve(authorization_cache_seconds=0.05) as served:
        made = await tokens.mint(served.record, casa.who, name="t")
        headers = {"Authorization": f"Bearer {made.secret}"}
        async with Talk(served.socket, additional_headers=headers) as talk:
            chat_id = chat_of(await talk.answer("demo", "say: x"))
            await tokens.revoke(served.record, casa.who, made.token.id)
            await asyncio.sleep(0.1)
            assert (await talk.answer("demo", "say: x"))["data"]["code"] == -44001
            assert await talk.closed() == 4401
        await closed(served, casa, chat_id)


async def test_a_process_that_is_told_to_end_ends_its_sockets_and_chats(
    system: System, casa: Casa, tmp_path: Path
):
    processes = Processes(system.settings, tmp_path)
    port = free_port()
    api = processes.start("dispatch.api", ARBE_API_PORT=str(port))
    try:
        async with Client(
            f"http://127.0.0.1:{port}", casa.token, patience_seconds=60
        ) as client:
            await client.health()
        url = f"ws://127.0.0.1:{port}/ws?access_token={casa.token}"
        async with Talk(url) as talk, Talk(url) as busy:
            chats = [chat_of(await talk.answer("demo", "say: x"))]
            await busy.ask("support", "sleep: 600", stream=True)
            chats.append((await busy.hear())["data"]["chatId"])
            api.send_signal(signal.SIGTERM)
            assert [await talk.closed(), await busy.closed()] == [1001, 1001]
        assert await asyncio.to_thread(api.wait, LIMIT_SECONDS) in {0, -signal.SIGTERM}
        for chat_id in chats:
            chat = await arc_chats.get(casa.record, casa.who, chat_id)
            assert chat["status"] == "CLOSED"
        log = (tmp_path / "log").read_text()
        assert "socket.closed" in log
        assert casa.token not in log
    finally:
        processes.end_all()


def casa_thread(chat: dict[str, Any]) -> Any:
    return arc_chats._thread_id(chat)
