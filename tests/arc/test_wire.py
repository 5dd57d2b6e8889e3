"""`POST /arc` to the byte: envelopes, statuses, codes, events."""

import asyncio
import json
from typing import Any

import pytest

from dispatch.operations import agents
from tests.arc.wire import Wire, frames, message, request, text_of


async def test_an_answer_repeats_id_and_trace(wire: Wire):
    params = {"initialMessage": message("say: hello")}
    for given in ("r-1", 7, 12345678901234567890123, "ü"):
        answer = await wire.call("chat.start", params, id=given, traceId="t-9")
        assert answer["arc"] == "1.0"
        assert answer["id"] == given
        assert answer["traceId"] == "t-9"
        assert (answer["responseAgent"], answer["targetAgent"]) == ("demo", "tester")
        assert answer["error"] is None
        assert text_of(answer["result"]) == "hello"
        assert answer["result"]["type"] == "chat"


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/event-stream", "application/arc+json", "x/y"]
)
async def test_the_content_type_of_a_request_is_no_reason(wire: Wire, content_type: str):
    params = {"initialMessage": {"role": "user", "parts": [{"type": "text", "content": "x"}]}}
    answer = await wire.post(
        request("chat.start", params), headers={"Content-Type": content_type}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/arc+json"
    assert answer.json()["error"] is None


async def test_a_chat_goes_on_until_it_is_ended(wire: Wire):
    params: dict[str, Any] = {
        "initialMessage": message("say: one"),
        "chatId": "my chat/1",
        "metadata": {"x": 1},
    }
    chat = (await wire.result("chat.start", params))["chat"]
    assert (chat["chatId"], chat["status"]) == ("my chat/1", "ACTIVE")
    assert chat["metadata"]["x"] == 1
    params = {"chatId": "my chat/1", "message": message("say: two")}
    assert text_of(await wire.result("chat.message", params)) == "two"
    params = {"chatId": "my chat/1", "reason": "done"}
    ended = (await wire.result("chat.end", params))["chat"]
    assert ended.pop("closedAt")
    assert ended == {"chatId": "my chat/1", "status": "CLOSED", "reason": "done"}
    for method in ("chat.end", "chat.message"):
        error = await wire.error(
            method, {"chatId": "my chat/1", "message": message("say: three")}
        )
        assert error["code"] == -43002
        assert error["details"]["chatId"] == "my chat/1"


async def test_an_id_that_is_taken_is_refused(wire: Wire):
    params = {"initialMessage": message("say: one"), "chatId": "mine"}
    await wire.result("chat.start", params)
    error = await wire.error("chat.start", params)
    assert error["code"] == -32602
    assert error["details"]["chatId"] == "mine"


async def test_the_same_idempotency_key_starts_one_chat(wire: Wire):
    body = request("chat.start", {"initialMessage": message("say: one")})
    found = [await wire.post(body, headers={"Idempotency-Key": "k-1"}) for _ in range(2)]
    chats = [each.json()["result"]["chat"] for each in found]
    assert chats[0]["chatId"] == chats[1]["chatId"]
    assert chats[0]["metadata"] == chats[1]["metadata"]
    other = request("chat.start", {"initialMessage": message("say: two")})
    refused = await wire.post(other, headers={"Idempotency-Key": "k-1"})
    assert refused.json()["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("body", "code", "given"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b'{"a": "\xff"}', -32700, None),
        (b"[" * 100_000, -32600, None),
        (b"[]", -32600, None),
        (b'{"params": {"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}", -32700, None),
        (b'"x"', -32600, None),
        (json.dumps(request("chat.start", id=None)).encode(), -32600, None),
        (json.dumps(request("chat.start", id=True)).encode(), -32600, None),
        (json.dumps(request("chat.start", id={})).encode(), -32600, None),
        (json.dumps(request("chat.start", arc="2.0")).encode(), -45001, "r-1"),
        (json.dumps(request("chat.start", arc=1)).encode(), -32600, "r-1"),
        (json.dumps(request("chat.start", arc=None)).encode(), -32600, "r-1"),
        (json.dumps(request("chat.start", targetAgent=None)).encode(), -32600, "r-1"),
        (json.dumps(request("chat.start", requestAgent="")).encode(), -32600, "r-1"),
        (json.dumps(request("chat.start", params=[])).encode(), -32600, "r-1"),
        (json.dumps(request("chat.start", traceId="x" * 201)).encode(), -45005, "r-1"),
        (json.dumps(request("", {})).encode(), -32600, "r-1"),
        (json.dumps(request("chat.stop")).encode(), -32601, "r-1"),
        (json.dumps(request("stream.start")).encode(), -32601, "r-1"),
    ],
)
async def test_what_is_no_request_is_told_so(wire: Wire, body: bytes, code: int, given: Any):
    answer = await wire.post(body)
    assert answer.status_code == 200
    found = answer.json()
    assert found["error"]["code"] == code, found
    assert isinstance(found["error"]["details"], dict)
    assert found["id"] == given
    assert found["result"] is None
    assert {"arc", "responseAgent", "targetAgent"} <= set(found)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("chat.start", {}),
        ("chat.start", {"initialMessage": "hello"}),
        ("chat.start", {"initialMessage": {"role": "user", "parts": []}}),
        ("chat.start", {"initialMessage": message("x"), "stream": "yes"}),
        ("chat.start", {"initialMessage": message("x"), "chatId": ""}),
        ("chat.start", {"initialMessage": message("x"), "chatId": "x" * 200}),
        ("chat.start", {"initialMessage": message("x"), "metadata": []}),
        ("chat.start", {"initialMessage": message("x"), "metadata": {"x": "y" * 70_000}}),
        ("chat.start", {"initialMessage": message("x"), "metadata": {"x": "\0"}}),
        ("chat.start", {"initialMessage": message("x\0")}),
        ("chat.message", {"message": message("x")}),
        ("chat.message", {"chatId": 7, "message": message("x")}),
        ("chat.end", {}),
        ("chat.end", {"chatId": "x", "reason": "x" * 3000}),
    ],
)
async def test_wrong_parameters_are_named(wire: Wire, method: str, params: Any):
    error = await wire.error(method, params)
    assert error["code"] == -32602, error
    assert error["message"]


async def test_unknown_chats_and_agents_have_their_codes(wire: Wire):
    error = await wire.error("chat.message", {"chatId": "no", "message": message("x")})
    assert (error["code"], error["details"]["chatId"]) == (-43001, "no")
    error = await wire.error("chat.end", {"chatId": "no"})
    assert error["code"] == -43001
    start = {"initialMessage": message("x")}
    error = await wire.error("chat.start", start, targetAgent="nobody")
    assert (error["code"], error["details"]["agentId"]) == (-41001, "nobody")


async def test_a_chat_is_told_from_another_agents(wire: Wire, casa: Any):
    await agents.create(casa.record, casa.who, handle="other", runner="demo")
    chat = (await wire.result("chat.start", {"initialMessage": message("x")}))["chat"]
    params = {"chatId": chat["chatId"], "message": message("x")}
    error = await wire.error("chat.message", params, targetAgent="other")
    assert error["code"] == -32602
    assert (await wire.result("chat.message", params, targetAgent="@demo"))["chat"]


async def test_a_bad_token_is_401_in_an_envelope(nobody: Wire):
    for params in ({}, {"stream": True}):
        answer = await nobody.post(request("chat.start", params, traceId="t"))
        assert answer.status_code == 401
        found = answer.json()
        assert found["error"]["code"] == -44001
        assert (found["id"], found["traceId"]) == ("r-1", "t")
        assert found["message"]
        assert "Bearer" in answer.headers["www-authenticate"]


async def test_other_verbs_are_refused(wire: Wire):
    for verb in ("GET", "PUT", "DELETE"):
        assert (await wire.http.request(verb, wire.endpoint)).status_code == 405
    assert (await wire.http.post(wire.endpoint + "/", json={})).status_code == 307


async def test_what_is_too_large_is_told_so(wire: Wire):
    error = await wire.error("chat.start", {"initialMessage": message("x" * 300_000)})
    assert error["code"] == -45004
    answer = await wire.post(request("chat.start", {"x": "y" * 1_100_000}))
    assert answer.status_code == 413
    found = answer.json()
    assert found["error"]["code"] == -45004
    assert found["id"] is None
    assert found["message"]


async def test_a_streamed_answer_comes_in_events(wire: Wire):
    params = {"initialMessage": message("say: one\ntwo three"), "stream": True}
    answer = await wire.post(
        request("chat.start", params, traceId="t-1", id=5),
        headers={"Content-Type": "text/event-stream", "Accept": "text/event-stream"},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    *pieces, (last, end) = frames(answer.text)
    assert pieces
    assert all(name == "stream" for name, _ in pieces)
    texts = [data["message"]["parts"][0]["content"] for _, data in pieces]
    assert "".join(texts) == "one\ntwo three"
    assert {data["message"]["parts"][0]["type"] for _, data in pieces} == {"TextPart"}
    assert last == "done"
    assert len({data["chatId"] for _, data in pieces} | {end["chatId"]}) == 1
    assert end["done"] is True
    assert (end["status"], end["requestId"], end["traceId"]) == ("ACTIVE", 5, "t-1")
    params = {"chatId": end["chatId"], "message": message("fail: no ink"), "stream": True}
    (name, told), (last, end) = frames((await wire.post(request("chat.message", params))).text)
    assert (name, told["error"]["code"]) == ("error", -42004)
    assert "no ink" in told["error"]["message"]
    assert (last, end["status"], end["done"]) == ("done", "ERROR", True)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("chat.message", {"chatId": "no", "message": message("x")}, -43001),
        ("chat.start", {"initialMessage": {}}, -32602),
        ("chat.start", {"initialMessage": message("x"), "chatId": ""}, -32602),
    ],
)
async def test_a_streamed_call_hears_its_refusal_as_events(
    wire: Wire, method: str, params: Any, code: int
):
    answer = await wire.post(request(method, params | {"stream": True}))
    assert answer.status_code == 200
    (name, told), (last, end) = frames(answer.text)
    assert (name, told["error"]["code"]) == ("error", code)
    assert isinstance(told["error"]["details"], dict)
    assert (last, end["status"], end["requestId"]) == ("done", "ERROR", "r-1")


async def test_events_come_one_by_one_and_a_caller_who_leaves_stops_nothing(
    wire: Wire, casa: Any
):
    params = {"initialMessage": message("steps: 3 0.5"), "stream": True, "chatId": "left"}
    heard = ""
    async with wire.http.stream(
        "POST", wire.endpoint, json=request("chat.start", params)
    ) as answer:
        async for text in answer.aiter_text():
            heard += text
            if "event: stream" in heard:
                break
    assert "event: done" not in heard
    params = {"chatId": "left", "message": message("say: next")}
    assert text_of(await wire.result("chat.message", params)) == "next"


async def test_fifty_chats_start_at_once(wire: Wire):
    params = {"initialMessage": message("say: hi")}
    found = await asyncio.gather(*(wire.result("chat.start", params) for _ in range(50)))
    assert len({each["chat"]["chatId"] for each in found}) == 50
    assert {text_of(each) for each in found} == {"hi"}
