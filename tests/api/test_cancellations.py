"""Cancelling over HTTP: one dispatch with what works for it, a thread, a house; sub-jobs."""

from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dispatch.errors import Unavailable
from dispatch.operations import create_thread as creating
from dispatch.operations import idempotency
from dispatch.operations import post_entry as posting
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine
from dispatch.stores.postgres.tables import metadata
from tests.api import turns
from tests.api.conftest import MakeHome
from tests.api.homes import Home, client_of, created, problem

FIELDS = {
    "id",
    "cascade",
    "by",
    "done",
    "threads",
    "cancelled",
    "requested",
    "requestedAt",
    "doneAt",
}


async def posted(home: Home, thread_id: str) -> dict[str, Any]:
    return created(await home.post(thread_id, "@demo go"))


async def last(home: Home, thread_id: str) -> dict[str, Any]:
    return (await home.payloads(thread_id))[-1]


async def member(home: Home, app: Any) -> httpx.AsyncClient:
    made = created(await home.http.post("/v1/members", json={"name": "Bo"}))
    body = {"name": "bo", "memberId": made["id"]}
    return client_of(app, created(await home.http.post("/v1/tokens", json=body))["token"])


async def test_a_thread_is_cancelled_with_all_below_it(home: Home):
    await home.agent()
    top = await home.thread()
    child = await home.thread(parent=top["id"])
    for each in (top, child):
        await posted(home, each["id"])
    answer = await home.http.post(
        f"/v1/threads/{top['id']}/cancel", json={"message": "wrong branch"}
    )
    assert answer.status_code == 200, answer.text
    asked = answer.json()
    assert set(asked) == {*FIELDS, "threadId", "message"}
    assert (asked["done"], asked["threads"], asked["cancelled"], asked["requested"]) == (
        True,
        2,
        2,
        0,
    )
    assert asked["by"] == {
        "kind": "member",
        "id": str(home.founded.member.id),
        "name": "Ada",
    }
    told = await last(home, child["id"])
    assert told["type"] == "signal.dispatch.cancelled"
    assert told["message"] == "wrong branch"
    assert told["by"]["name"] == "Ada"
    assert (await home.http.get(f"/v1/cancellations/{asked['id']}")).json() == asked


async def test_without_cascade_the_threads_below_go_on(home: Home):
    await home.agent()
    top = await home.thread()
    child = await home.thread(parent=top["id"])
    await posted(home, child["id"])
    answer = await home.http.post(f"/v1/threads/{top['id']}/cancel", json={"cascade": False})
    assert (answer.json()["done"], answer.json()["threads"]) == (True, 0)
    assert (await last(home, child["id"]))["type"] == "signal.dispatch.queued"


async def test_a_house_is_its_owners_to_cancel(home: Home, make_home: MakeHome, app: Any):
    await home.agent()
    stranger = await make_home()
    top, other = await home.thread(tags=["nightly"]), await home.thread()
    for each in (top, other):
        await posted(home, each["id"])
    bo = await member(home, app)
    problem(await bo.post("/v1/threads/cancel"), 403, "forbidden")
    assert (await bo.post(f"/v1/threads/{other['id']}/cancel")).status_code == 200
    tagged = await home.http.post("/v1/threads/cancel", json={"tag": "nightly"})
    assert (tagged.json()["cancelled"], tagged.json()["tag"]) == (1, "nightly")
    assert (await home.http.post("/v1/threads/cancel")).json()["threads"] == 0
    asked = tagged.json()["id"]
    assert (await bo.get(f"/v1/cancellations/{asked}")).status_code == 200
    problem(await stranger.http.get(f"/v1/cancellations/{asked}"), 404, "not_found")
    problem(await home.http.get("/v1/cancellations/nothing"), 404, "not_found")
    await bo.aclose()


async def test_a_running_turn_is_asked_and_what_works_for_it_is_told_apart(
    home: Home, record: Record
):
    await home.agent()
    top = await home.thread()
    made = await posted(home, top["id"])
    dispatch_id = made["dispatches"][0]["id"]
    turn = await turns.begin(record, made)
    child = await home.thread(parent=top["id"], parentDispatchId=dispatch_id)
    assert child["parentDispatchId"] == dispatch_id
    await posted(home, child["id"])
    url = f"/v1/threads/{top['id']}/dispatches/{dispatch_id}/cancel"
    answer = await home.http.post(url, json={"message": "enough"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "requested"
    assert (await last(home, child["id"]))["type"] == "signal.dispatch.cancelled"
    shown = (await home.http.get(f"/v1/cancellations/{answer.json()['cancellationId']}")).json()
    assert (shown["dispatchId"], shown["done"], shown["cancelled"]) == (dispatch_id, False, 1)
    again = await home.http.post(url)
    assert again.json() == answer.json()
    await turn.end()


async def test_a_dispatch_may_be_cancelled_without_what_works_for_it(
    home: Home,
):
    await home.agent()
    top = await home.thread()
    dispatch_id = (await posted(home, top["id"]))["dispatches"][0]["id"]
    child = await home.thread(parent=top["id"], parentDispatchId=dispatch_id)
    await posted(home, child["id"])
    answer = await home.http.post(
        f"/v1/threads/{top['id']}/dispatches/{dispatch_id}/cancel", json={"cascade": False}
    )
    assert (answer.status_code, answer.json()) == (200, {"status": "cancelled"})
    assert (await last(home, child["id"]))["type"] == "signal.dispatch.queued"


async def test_nothing_is_begun_for_a_dispatch_that_ended_or_was_asked_to(
    home: Home, record: Record
):
    await home.agent()
    top = await home.thread()
    before = (await home.http.get("/v1/threads")).json()
    ended, asked = await posted(home, top["id"]), await posted(home, top["id"])
    ids = [each["dispatches"][0]["id"] for each in (ended, asked)]
    await home.http.post(f"/v1/threads/{top['id']}/dispatches/{ids[0]}/cancel")
    await turns.begin(record, asked)
    await home.http.post(f"/v1/threads/{top['id']}/dispatches/{ids[1]}/cancel")
    for dispatch_id in ids:
        body = {"parent": top["id"], "parentDispatchId": dispatch_id, "message": "@demo go"}
        refused = problem(await home.http.post("/v1/threads", json=body), 409, "conflict")
        assert (refused["reason"], refused["dispatchId"]) == ("parent_ended", dispatch_id)
    for unknown in ("000000000000001_0000000000.0", "nonsense"):
        body = {"parent": top["id"], "parentDispatchId": unknown}
        problem(await home.http.post("/v1/threads", json=body), 404, "not_found")
    body = {"parent": "@demo", "parentDispatchId": ids[0]}
    problem(await home.http.post("/v1/threads", json=body), 422, "invalid")
    after = (await home.http.get("/v1/threads")).json()
    assert len(after["threads"]) == len(before["threads"])


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_cancel_that_came_while_a_sub_job_was_made_leaves_no_work(
    home: Home, monkeypatch: pytest.MonkeyPatch, keyed: bool
):
    await home.agent()
    top = await home.thread()
    dispatch_id = (await posted(home, top["id"]))["dispatches"][0]["id"]
    threads: list[str] = []
    really = posting.post_entry

    async def cancelled_first(record: Any, who: Any, thread_id: Any, *a: Any, **k: Any) -> Any:
        threads.append(str(thread_id))
        accepted = await really(record, who, thread_id, *a, **k)
        url = f"/v1/threads/{top['id']}/dispatches/{dispatch_id}/cancel"
        await home.http.post(url, json={"cascade": False})
        return accepted

    monkeypatch.setattr(creating.post_entry, "post_entry", cancelled_first)
    body = {"parent": top["id"], "parentDispatchId": dispatch_id, "message": "@demo go"}
    if keyed:
        body["key"] = "job"
        first = created(await home.http.post("/v1/threads", json={"key": "job"}))
    refused = await home.http.post("/v1/threads", json=body)
    assert problem(refused, 409, "conflict")["reason"] == "parent_ended"
    if keyed:
        assert threads == [first["thread"]["id"]]
        assert (await last(home, threads[0]))["type"] == "signal.dispatch.cancelled"
    else:
        problem(await home.http.get(f"/v1/threads/{threads[0]}"), 410, "gone")


async def test_a_message_no_stream_can_hold_is_refused_before_anything_is_done(home: Home):
    await home.agent()
    top = await home.thread()
    dispatch_id = (await posted(home, top["id"]))["dispatches"][0]["id"]
    for path in (
        f"{top['id']}/dispatches/{dispatch_id}/cancel",
        f"{top['id']}/cancel",
        "cancel",
    ):
        for message in ("a\0b", "x" * 2001):
            answer = await home.http.post(f"/v1/threads/{path}", json={"message": message})
            problem(answer, 422, "invalid")
    assert (await last(home, top["id"]))["type"] == "signal.dispatch.queued"


async def test_a_repeat_under_its_key_cancels_nothing_that_came_since(home: Home):
    await home.agent()
    top = await home.thread()
    await posted(home, top["id"])
    for path in (f"{top['id']}/cancel", "cancel"):
        url, headers = f"/v1/threads/{path}", {"Idempotency-Key": path}
        first = await home.http.post(url, headers=headers)
        await posted(home, top["id"])
        again = await home.http.post(url, headers=headers)
        assert again.json() == first.json()
        assert (await last(home, top["id"]))["type"] == "signal.dispatch.queued"


async def test_a_repeat_after_the_death_of_its_first_attempt_finds_what_was_asked(
    home: Home, record: Record, monkeypatch: pytest.MonkeyPatch
):
    await home.agent()
    top = await home.thread()
    await posted(home, top["id"])
    url, headers = f"/v1/threads/{top['id']}/cancel", {"Idempotency-Key": "k"}

    async def dies(*_: object, **__: object) -> None:
        raise Unavailable("Postgres")

    with monkeypatch.context() as dying:
        dying.setattr(idempotency, "keep", dies)
        assert (await home.http.post(url, headers=headers)).status_code == 503
    it = metadata.tables["idempotency"]
    async with engine.as_member(record.members, home.founded.member.id) as connection:
        await connection.execute(sa.update(it).values(claimed_until=sa.func.now()))
    await posted(home, top["id"])
    again = await home.http.post(url, headers=headers)
    assert (again.status_code, again.json()["cancelled"]) == (200, 1)
    assert (await last(home, top["id"]))["type"] == "signal.dispatch.queued"
