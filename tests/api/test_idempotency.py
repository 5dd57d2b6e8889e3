"""The same call under the same key: made once, answered the same, whatever dies in between."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.routing import compile_path

from dispatch import ids
from dispatch.errors import Unavailable
from dispatch.operations import authorize, idempotency, narrate, post_entry
from dispatch.operations.record import Record
from tests.api import turns
from tests.api.conftest import MakeHome
from tests.api.homes import Home, client_of, created, problem

Rows = Callable[..., Awaitable[list[tuple[Any, ...]]]]


@pytest_asyncio.fixture
async def sql(postgres_url: str) -> AsyncIterator[Rows]:
    """A look behind the policies."""
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as conn:

        async def run(statement: str, *values: object) -> list[tuple[Any, ...]]:
            done = await conn.execute(statement.encode(), values)
            return await done.fetchall() if done.description else []

        yield run


async def keyed(
    http: httpx.AsyncClient, method: str, url: str, body: Any = None, key: str = "k"
) -> httpx.Response:
    return await http.request(method, url, json=body, headers={"Idempotency-Key": key})


async def end_claims(sql: Rows) -> None:
    """Let time pass: whoever is at a call has lost it."""
    await sql("update idempotency set claimed_until = now() where status is null")


class Died(BaseException):
    """The process is gone: nothing of ours runs after it."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the next keyed call die between what it did and its answer."""

    def arm() -> None:
        async def die(*_: Any) -> None:
            monkeypatch.undo()
            raise Died

        monkeypatch.setattr(idempotency, "keep", die)

    return arm


async def dies(call: Awaitable[httpx.Response]) -> None:
    with pytest.raises(Died):
        await call


async def everything(home: Home, record: Record) -> list[tuple[str, str, Any]]:
    """Return one call of each mutating route, on things made for it."""
    agent = await home.agent("old")
    await home.agent("doomed")
    environment = created(await home.http.post("/v1/environments", json={"name": "e"}))
    member = created(await home.http.post("/v1/members", json={"name": "Bo"}))
    token = created(await home.http.post("/v1/tokens", json={"name": "t"}))
    thread, doomed = await home.thread(), await home.thread()
    posted = created(await home.post(thread["id"], "@old hi"))
    waiting = created(await home.post(thread["id"], "@old and this"))
    at = f"/v1/threads/{thread['id']}"
    asking = (await home.thread())["id"]
    turn = await turns.begin(record, created(await home.post(asking, "@old ask me")))
    answer = f"/v1/threads/{asking}/permissions/{await turn.ask()}"
    return [
        ("POST", "/v1/houses", {"name": "Casa", "ownerName": "Cy"}),
        ("PATCH", "/v1/houses/me", {"name": "Villa"}),
        ("POST", "/v1/members", {"name": "Di"}),
        ("DELETE", f"/v1/members/{member['id']}", None),
        ("POST", "/v1/tokens", {"name": "laptop"}),
        ("DELETE", f"/v1/tokens/{token['id']}", None),
        ("POST", "/v1/agents", {"handle": "new", "runner": "demo"}),
        ("PATCH", f"/v1/agents/{agent['id']}", {"triggerMode": "always"}),
        ("DELETE", "/v1/agents/@doomed", None),
        ("POST", "/v1/environments", {"name": "box"}),
        ("DELETE", f"/v1/environments/{environment['id']}", None),
        ("POST", "/v1/threads", {"name": "new", "message": "@old hello"}),
        ("PATCH", at, {"name": "named"}),
        ("PUT", f"{at}/agents/@old", {"triggerMode": "never"}),
        ("DELETE", f"{at}/agents/@old", None),
        ("POST", f"{at}/reconcile", None),
        ("POST", f"{at}/dispatches/{posted['dispatches'][0]['id']}/cancel", {"message": "no"}),
        ("POST", f"{at}/entries/{waiting['entry']['id']}/withdraw", {}),
        ("POST", answer, {"decision": "deny"}),
        ("POST", f"{at}/cancel", {"message": "no"}),
        ("POST", "/v1/threads/cancel", None),
        ("POST", "/v1/threads/prune", {"dryRun": True}),
        ("POST", "/v1/threads/archive", {"dryRun": True}),
        ("POST", f"/v1/threads/{doomed['id']}/archive", {"rollOver": False}),
        ("POST", f"/v1/threads/{doomed['id']}/restore", None),
        ("POST", "/v1/chats/sweep", {"dryRun": True}),
        ("POST", "/v1/threads/cleanup", {"olderThan": 86400}),
        ("DELETE", f"/v1/threads/{doomed['id']}", None),
    ]


async def test_no_mutating_route_is_untried_here(app: FastAPI, home: Home, record: Record):
    """What posts entries has its own key, on the stream: `test_entries.py`, `tests/arc`."""
    tried = [(method, url) for method, url, _ in await everything(home, record)]
    for template, methods in app.openapi()["paths"].items():
        path = compile_path(template)[0]
        for method in {each.upper() for each in methods} & {"POST", "PUT", "PATCH", "DELETE"}:
            if not (method == "POST" and template.endswith(("/entries", "/arc"))):
                assert any(m == method and path.match(url) for m, url in tried), template


async def test_every_kind_of_call_is_answered_the_same_again(home: Home, record: Record):
    for number, (method, url, body) in enumerate(await everything(home, record)):
        first = await keyed(home.http, method, url, body, f"k{number}")
        assert first.is_success, (method, url, first.text)
        assert "idempotency-replayed" not in first.headers
        again = await keyed(home.http, method, url, body, f"k{number}")
        assert again.headers["idempotency-replayed"] == "true", (method, url)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        for header in ("content-type", "content-length", "cache-control"):
            assert again.headers.get(header) == first.headers.get(header), (method, url)


async def test_every_kind_of_call_that_died_before_its_answer_converges(
    home: Home, record: Record, dying: Callable[[], None], sql: Rows
):
    for number, (method, url, body) in enumerate(await everything(home, record)):
        before = await counts(sql)
        dying()
        await dies(keyed(home.http, method, url, body, f"k{number}"))
        after = await counts(sql)
        in_use = await keyed(home.http, method, url, body, f"k{number}")
        assert problem(in_use, 409, "conflict")["reason"] == "key_in_use"
        assert in_use.headers["retry-after"] == "1"
        await end_claims(sql)
        answer = await keyed(home.http, method, url, body, f"k{number}")
        assert answer.is_success, (method, url, answer.text)
        assert await counts(sql) == after, (method, url)
        makes = url.count("/") == 2 or (url.endswith("/cancel") and "dispatches" not in url)
        grew = sum(after.values()) - sum(before.values())
        assert (method == "POST" and makes) == (grew > 0), (method, url)


async def counts(sql: Rows) -> dict[str, int]:
    tables = (
        *("houses", "members", "tokens", "agents", "environments", "threads"),
        "cancellations",
    )
    return {name: (await sql(f"select count(*) from {name}"))[0][0] for name in tables}  # noqa: S608


async def test_what_died_after_it_was_made_is_told_once(
    home: Home, dying: Callable[[], None], sql: Rows
):
    dying()
    agent = {"handle": "new", "runner": "demo", "triggerMode": "always"}
    await dies(keyed(home.http, "POST", "/v1/agents", agent))
    dying()
    thread = {"name": "new", "message": "hello"}
    await dies(keyed(home.http, "POST", "/v1/threads", thread, "t"))
    await end_claims(sql)
    created(await keyed(home.http, "POST", "/v1/agents", agent))
    made = created(await keyed(home.http, "POST", "/v1/threads", thread, "t"))
    told = await home.payloads(str(home.founded.house.primary_thread_id))
    assert [each["type"] for each in told].count("signal.house.agent_created") == 1
    assert [each["type"] for each in await home.payloads(made["thread"]["id"])] == [
        "signal.thread.created",
        "chat",
        "signal.dispatch.queued",
    ]


@pytest.mark.parametrize("url", ["/v1/tokens", "/v1/houses"])
async def test_the_text_of_a_token_nobody_heard_is_replaced(
    app: FastAPI,
    home: Home,
    dying: Callable[[], None],
    sql: Rows,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
):
    digests: list[str] = []
    digest = authorize.digest
    monkeypatch.setattr(authorize, "digest", lambda t: digests.append(digest(t)) or digests[-1])
    body = {"name": "n"} if url.endswith("tokens") else {"name": "n", "ownerName": "o"}
    home.http.headers["Authorization"] = f"Bearer {home.founded.secret}"
    dying()
    await dies(keyed(home.http, "POST", url, body))
    unheard = digests[-1]
    await end_claims(sql)
    text = created(await keyed(home.http, "POST", url, body))["token"]
    async with client_of(app, text) as owner:
        assert (await owner.get("/v1/houses/me")).status_code == 200
    assert await sql("select from tokens where digest = %s", unheard) == []
    assert created(await keyed(home.http, "POST", url, body))["token"] == text


async def test_a_key_is_one_calls_alone(home: Home):
    created(await keyed(home.http, "POST", "/v1/members", {"name": "Bo"}))
    for method, url, body in [
        ("POST", "/v1/members", {"name": "Cy"}),
        ("POST", "/v1/members?x=1", {"name": "Bo"}),
        ("POST", "/v1/environments", {"name": "Bo"}),
        ("DELETE", f"/v1/members/{home.founded.member.id}", None),
    ]:
        answer = await keyed(home.http, method, url, body)
        assert problem(answer, 409, "conflict")["reason"] == "key_reused"
    assert len((await home.http.get("/v1/members")).json()["members"]) == 2


async def test_many_at_once_make_one(home: Home):
    async def call() -> httpx.Response:
        while True:
            answer = await keyed(home.http, "POST", "/v1/agents", body)
            if answer.status_code != 409:
                return answer
            told = problem(answer, 409, "conflict")
            assert told["reason"] == "key_in_use"
            assert 0 < told["freeAfterSeconds"] <= 15

    body = {"handle": "one", "runner": "demo"}
    answers = await asyncio.gather(*(call() for _ in range(20)))
    assert len({created(each)["id"] for each in answers}) == 1
    assert sum("idempotency-replayed" not in each.headers for each in answers) == 1
    assert len((await home.http.get("/v1/agents")).json()["agents"]) == 1


async def test_a_refusal_is_not_kept_and_its_key_is_free(home: Home):
    problem(await keyed(home.http, "POST", "/v1/members", {"name": ""}), 422, "invalid")
    problem(await keyed(home.http, "POST", "/v1/members", {"nmae": "Bo"}), 422, "invalid")
    problem(await keyed(home.http, "DELETE", f"/v1/members/{ids.uuid7()}"), 404, "not_found")
    made = created(await keyed(home.http, "POST", "/v1/members", {"name": "Bo"}))
    assert made["name"] == "Bo"


async def test_a_call_that_a_server_left_half_done_goes_on_with_the_same_id(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    async def away(*_: Any, **__: Any) -> None:
        monkeypatch.undo()
        raise Unavailable("Redis")

    monkeypatch.setattr(post_entry, "post_entry", away)
    body = {"name": "new", "message": "hello"}
    problem(await keyed(home.http, "POST", "/v1/threads", body), 503, "unavailable")
    half = (await home.http.get("/v1/threads?q=new")).json()["threads"]
    made = created(await keyed(home.http, "POST", "/v1/threads", body))
    assert [each["id"] for each in half] == [made["thread"]["id"]]
    assert [each["type"] for each in await home.payloads(made["thread"]["id"])] == [
        "signal.thread.created",
        "chat",
    ]


async def test_what_was_deleted_before_its_maker_heard_of_it_is_not_made_again(
    home: Home, dying: Callable[[], None], sql: Rows
):
    dying()
    await dies(keyed(home.http, "POST", "/v1/threads", {"name": "new"}))
    made = (await home.http.get("/v1/threads?q=new")).json()["threads"][0]
    assert (await home.http.delete(f"/v1/threads/{made['id']}")).status_code == 204
    await end_claims(sql)
    for _ in range(2):
        answer = await keyed(home.http, "POST", "/v1/threads", {"name": "new"})
        assert problem(answer, 410, "gone")["threadId"] == made["id"]


async def test_who_slept_through_their_claim_makes_nothing_and_spoils_nothing(
    app: FastAPI, home: Home, sql: Rows, monkeypatch: pytest.MonkeyPatch
):
    asleep, woken = asyncio.Event(), asyncio.Event()
    ready = narrate.ready

    async def sleep(record: Record) -> None:
        monkeypatch.undo()
        await ready(record)
        asleep.set()
        await woken.wait()

    monkeypatch.setattr(narrate, "ready", sleep)
    body = {"name": "n", "ownerName": "o"}
    slow = asyncio.create_task(keyed(home.http, "POST", "/v1/houses", body))
    await asleep.wait()
    await end_claims(sql)
    made = created(await keyed(home.http, "POST", "/v1/houses", body))
    before = await counts(sql)
    woken.set()
    assert problem(await slow, 409, "conflict")["reason"] == "key_in_use"
    assert await counts(sql) == before
    async with client_of(app, made["token"]) as owner:
        assert (await owner.get("/v1/houses/me")).json() == made["house"]


async def test_an_answer_that_could_not_be_kept_is_not_heard(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    async def away(*_: Any, **__: Any) -> None:
        monkeypatch.undo()
        raise Unavailable("Postgres")

    monkeypatch.setattr(idempotency.stored, "finish", away)
    answer = await keyed(home.http, "POST", "/v1/tokens", {"name": "t"})
    problem(answer, 503, "unavailable")
    assert "arbe_owner" not in answer.text


async def test_nothing_stored_tells_an_answer_and_another_token_cannot_hear_it(
    app: FastAPI, home: Home, sql: Rows
):
    other = created(await home.http.post("/v1/tokens", json={"name": "other"}))["token"]
    minted = created(await keyed(home.http, "POST", "/v1/tokens", {"name": "canary"}, "my-key"))
    house = home.founded.house.id
    stored = await sql("select i::text, answer from idempotency i where house_id = %s", house)
    assert len(stored) == 1
    text = f"{stored[0][0]} {base64.urlsafe_b64decode(stored[0][1])!r}"
    for secret in (minted["token"], home.founded.secret, "canary", "my-key"):
        assert secret not in text
    async with client_of(app, other) as http:
        answer = await keyed(http, "POST", "/v1/tokens", {"name": "canary"}, "my-key")
        assert problem(answer, 409, "conflict")["reason"] == "key_sealed"
        assert minted["token"] not in answer.text


async def test_the_operators_and_each_members_keys_are_their_own(
    app: FastAPI, home: Home, make_home: MakeHome
):
    other = await make_home()
    body = {"name": "n", "ownerName": "o"}
    found: list[str] = []
    async with client_of(app, "op") as operator:
        for http in (operator, operator, home.http, other.http):
            answer = await keyed(http, "POST", "/v1/houses", body)
            found.append(created(answer)["house"]["id"])
        problem(await keyed(operator, "POST", "/v1/members", {}, "x"), 401, "unauthenticated")
    assert found[0] == found[1]
    assert len(set(found)) == 3


async def test_an_old_key_is_new_again(home: Home, sql: Rows):
    first = created(await keyed(home.http, "POST", "/v1/members", {"name": "Bo"}))
    await sql(
        "update idempotency set created_at = now() - interval '49 h', claimed_until = now() "
        "where house_id = %s",
        home.founded.house.id,
    )
    again = created(await keyed(home.http, "POST", "/v1/members", {"name": "Bo"}))
    assert again["id"] != first["id"]


async def test_who_removes_themselves_hears_so(app: FastAPI, home: Home):
    body = {"name": "Bo", "role": "owner"}
    member = created(await home.http.post("/v1/members", json=body))
    token = created(
        await home.http.post("/v1/tokens", json={"name": "b", "memberId": member["id"]})
    )
    async with client_of(app, token["token"]) as bo:
        answer = await keyed(bo, "DELETE", f"/v1/members/{member['id']}")
        assert answer.status_code == 204
        problem(
            await keyed(bo, "DELETE", f"/v1/members/{member['id']}"), 401, "unauthenticated"
        )


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\u00e9"])
async def test_a_bad_key_is_refused(home: Home, key: str):
    answer = await home.http.post(
        "/v1/members", json={"name": "Bo"}, headers=[(b"Idempotency-Key", key.encode())]
    )
    problem(answer, 422, "invalid")
    assert len((await home.http.get("/v1/members")).json()["members"]) == 1
