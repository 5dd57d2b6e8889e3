"""Every door's bad input: a clear problem, and nothing half written."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from dispatch import ids
from tests.api.conftest import MakeHome
from tests.api.homes import Home, client_of, created, problem

THREAD_ROUTES = [
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("PUT", "/agents/@demo"),
    ("POST", "/entries"),
    ("GET", "/entries"),
    ("GET", "/stream"),
    ("GET", "/dispatches/001760000000123_0000000000.0"),
    ("POST", "/dispatches/001760000000123_0000000000.0/cancel"),
    ("GET", "/diagnose"),
    ("POST", "/reconcile"),
]
BODIES = {"PATCH": {"name": "mine"}, "PUT": {"triggerMode": "always"}}


async def ask(home: Home, method: str, url: str) -> httpx.Response:
    body = {"text": "hi"} if url.endswith("/entries") else BODIES.get(method, {})
    if method in {"GET", "DELETE"}:
        return await home.http.request(method, url)
    return await home.http.request(method, url, json=body)


@pytest.mark.parametrize(("method", "tail"), THREAD_ROUTES)
async def test_a_foreign_thread_looks_like_an_unknown_one(
    home: Home, make_home: MakeHome, method: str, tail: str
):
    other = await make_home()
    await home.agent()
    foreign = (await other.thread())["id"]
    unknown = str(ids.uuid7())
    told = problem(await ask(home, method, f"/v1/threads/{foreign}{tail}"), 404, "not_found")
    same = problem(await ask(home, method, f"/v1/threads/{unknown}{tail}"), 404, "not_found")
    assert told["detail"].replace(foreign, "") == same["detail"].replace(unknown, "")
    assert len(await other.payloads(foreign)) == 1


@pytest.mark.parametrize(
    "ref", ["zzz", "12", "%00%00%00%00", "@no%00body", "a" * 300, "%F0%9F"]
)
@pytest.mark.parametrize(("method", "tail"), THREAD_ROUTES)
async def test_a_text_that_is_no_reference_is_refused(
    home: Home, method: str, tail: str, ref: str
):
    answer = await ask(home, method, f"/v1/threads/{ref}{tail}")
    assert answer.status_code in {400, 404, 422}, answer.text
    assert answer.json()["nextStep"]


@pytest.mark.parametrize(
    "token",
    [None, "", "arbe_owner_wrong", "secret", "arbe_owner_" + "a" * 43, "arbe_ow\u00ffner"],
)
async def test_a_wrong_token_is_refused_everywhere_alike(app: FastAPI, token: str | None):
    async with client_of(app, None) as client:
        headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
        for method, url in [
            ("GET", "/v1/threads"),
            ("POST", f"/v1/threads/{ids.uuid7()}/entries"),
            ("POST", "/v1/agents/@demo/entries"),
            ("GET", "/v1/houses/me"),
            ("POST", "/v1/threads"),
        ]:
            answer = await client.request(method, url, headers=headers)
            problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"{}",
        b'{"text": 7}',
        b'{"text": "hi", "by": {"kind": "agent"}}',
        b'{"text": ""}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "a\\ud800b"}',
        b'{"text": "\xff\xfe"}',
        b'{"text": "hi", "parts": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"text": "hi", "parts": [' + b'{"a":' * 60 + b"1" + b"}" * 60 + b"]}",
        b'{"text": "hi", "mentions": ["@de\\u0000mo"]}',
    ],
)
async def test_a_bad_entry_is_refused_and_nothing_is_written(home: Home, body: bytes):
    thread = await home.thread()
    answer = await home.http.post(f"/v1/threads/{thread['id']}/entries", content=body)
    assert answer.status_code in {404, 422}, answer.text
    assert answer.json()["nextStep"]
    assert len(await home.payloads(thread["id"])) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"name": "x", "nmae": "y"}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "a\\ud800b"}',
        b'{"name": ""}',
        b'{"name": "' + b"x" * 201 + b'"}',
        b'{"name": 7}',
        b'{"tags": ["' + b"x" * 65 + b'"]}',
        b'{"tags": ["\\u0000"]}',
        b'{"config": {"a": "\\u0000"}}',
        b'{"config": {"a": "\\ud800"}}',
        b'{"config": {"\\ud800": 1}}',
        b'{"config": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}",
        b'{"config": ' + b'{"a":' * 20000 + b"1" + b"}" * 20000 + b"}",
        b'{"key": "a\\u0000"}',
        b'{"parent": "a\\u0000b"}',
        b'{"parent": "@a\\u0000b"}',
        b'{"parent": "zz"}',
        b'{"message": "a\\u0000"}',
        b'{"message": 3}',
    ],
)
async def test_a_bad_thread_is_refused_and_nothing_is_written(home: Home, body: bytes):
    answer = await home.http.post(
        "/v1/threads", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {400, 404, 422}, answer.text
    assert answer.json()["nextStep"]
    assert len((await home.http.get("/v1/threads")).json()["threads"]) == 1


async def test_a_body_that_is_not_json_by_type_is_told_so(home: Home):
    answer = await home.http.post("/v1/threads", data={"name": "x"})
    assert "Content-Type" in problem(answer, 422, "invalid")["nextStep"]


async def test_a_huge_body_is_refused_however_it_comes(home: Home):
    thread = await home.thread()
    url = f"/v1/threads/{thread['id']}/entries"
    huge = b'{"text": "' + b"x" * (1024 * 1024) + b'"}'
    problem(await home.http.post(url, content=huge), 413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    for target in (url, "/v1/threads"):
        problem(await home.http.post(target, content=chunks()), 413, "too_large")
    headers = {"Idempotency-Key": "k"}
    removed = await home.http.request(
        "DELETE", f"/v1/threads/{thread['id']}", content=chunks(), headers=headers
    )
    problem(removed, 413, "too_large")
    assert len(await home.payloads(thread["id"])) == 1


async def test_a_long_text_is_refused(home: Home):
    thread = await home.thread()
    answer = await home.post(thread["id"], "x" * (256 * 1024 + 1))
    assert problem(answer, 413, "too_large")["setting"] == "ARBE_MAX_TEXT_BYTES"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\u00e9"])
async def test_a_bad_idempotency_key_is_refused(home: Home, key: str):
    thread = await home.thread()
    answer = await home.http.post(
        f"/v1/threads/{thread['id']}/entries",
        json={"text": "hi"},
        headers=[(b"Idempotency-Key", key.encode())],
    )
    problem(answer, 422, "invalid")


@pytest.mark.parametrize("noun", ["threads", "agents", "members", "tokens", "environments"])
@pytest.mark.parametrize("query", ["cursor=zzz", "cursor=", "limit=0", "limit=201", "limit=x"])
async def test_a_bad_page_is_refused(home: Home, noun: str, query: str):
    problem(await home.http.get(f"/v1/{noun}?{query}"), 422, "invalid")


@pytest.mark.parametrize(
    "query", ["after=1", "before=zz", "after=%00", "limit=0", "after=a&before=b"]
)
async def test_a_bad_place_on_the_stream_is_refused(home: Home, query: str):
    thread = await home.thread()
    answer = await home.http.get(f"/v1/threads/{thread['id']}/entries?{query}")
    problem(answer, 422, "invalid")


@pytest.mark.parametrize(
    "query", ["status=asleep", "pinned=maybe", "parent=zz", "tag=%00", "q=%00"]
)
async def test_a_bad_filter_is_refused(home: Home, query: str):
    problem(await home.http.get(f"/v1/threads?{query}"), 422, "invalid")


@pytest.mark.parametrize("query", ["offset=zz", "live=yes&offset=-1", "live=sse", "tail=x"])
async def test_a_bad_way_to_follow_is_refused_as_the_protocol_says(home: Home, query: str):
    thread = await home.thread()
    answer = await home.http.get(f"/v1/threads/{thread['id']}/stream?{query}")
    problem(answer, 400, "invalid")


async def test_the_stream_is_served(home: Home):
    thread = await home.thread()
    created(await home.post(thread["id"], "hi"))
    url = f"/v1/threads/{thread['id']}/stream"
    answer = await home.http.get(f"{url}?offset=-1")
    assert [entry["payload"]["type"] for entry in answer.json()] == [
        "signal.thread.created",
        "chat",
    ]
    head = await home.http.head(url)
    assert head.status_code == 200
    assert head.headers["stream-next-offset"] == answer.headers["stream-next-offset"]


async def test_a_bad_dispatch_id_is_unknown(home: Home):
    thread = await home.thread()
    for name in ("zzz", "001760000000123_0000000000.0"):
        url = f"/v1/threads/{thread['id']}/dispatches/{name}"
        problem(await home.http.get(url), 404, "not_found")
        problem(await home.http.post(f"{url}/cancel"), 404, "not_found")


async def test_a_foreign_parent_agent_or_environment_is_unknown(
    home: Home, make_home: MakeHome
):
    other = await make_home()
    thread, agent = await other.thread(), await other.agent()
    for body in (
        {"parent": thread["id"]},
        {"parent": agent["id"]},
        {"parent": str(other.founded.house.id)},
        {"environment": str(ids.uuid7())},
    ):
        problem(await home.http.post("/v1/threads", json=body), 404, "not_found")
    answer = await home.http.post(f"/v1/agents/{agent['id']}/entries", json={"text": "hi"})
    problem(answer, 404, "not_found")


async def test_what_is_not_there_and_what_cannot_be_done(nobody: httpx.AsyncClient):
    problem(await nobody.get("/v1/nothing"), 404, "no_such_route")
    answer = await nobody.put("/v1/threads", json={})
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"
    answer = await nobody.post("/v1/threads/0199/stream")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_mistake_of_ours_tells_nothing_but_its_request_id(
    app: FastAPI, home: Home, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.state.record, "members", None)
    answer = await home.http.get("/v1/threads", headers={"X-Request-Id": "r-1"})
    told = problem(answer, 500, "internal")
    assert told["requestId"] == answer.headers["x-request-id"] == "r-1"
    assert "NoneType" not in answer.text


async def test_every_answer_has_a_request_id_and_a_hostile_one_is_replaced(
    nobody: httpx.AsyncClient,
):
    kept = await nobody.get("/health", headers={"X-Request-Id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    made = await nobody.get("/health", headers={"X-Request-Id": "a b\t{}"})
    assert len(made.headers["x-request-id"]) == 16
