"""Calls on a thread that hold only while it has a status the caller names."""

import time
from typing import Any

import httpx
import pytest

from dispatch.operations.record import Record
from tests.api import turns
from tests.api.homes import Home, created, problem


async def busy_thread(home: Home) -> dict[str, Any]:
    """Make a thread whose row lags: its turn waits, and nobody has looked since."""
    await home.agent()
    thread = await home.thread(name="Old")
    return created(await home.post(thread["id"], "@demo go"))


def calls(posted: dict[str, Any]) -> dict[str, tuple[str, str]]:
    url = f"/v1/threads/{posted['threadId']}"
    dispatch = posted["dispatches"][0]["id"]
    return {
        "patch": ("PATCH", url),
        "delete": ("DELETE", url),
        "cancel": ("POST", f"{url}/cancel"),
        "cancel one": ("POST", f"{url}/dispatches/{dispatch}/cancel"),
    }


async def call(
    home: Home, method: str, url: str, statuses: list[str], *, where: str
) -> httpx.Response:
    guard = {"ifStatus": statuses}
    if where == "query":
        return await home.http.request(method, url, params=guard, json={})
    return await home.http.request(method, url, json=guard)


@pytest.mark.parametrize("where", ["query", "body"])
@pytest.mark.parametrize("name", ["patch", "delete", "cancel", "cancel one"])
async def test_a_call_for_another_status_is_refused_and_changes_nothing(
    home: Home, name: str, where: str
):
    if (name, where) == ("delete", "body"):
        return
    posted = await busy_thread(home)
    method, url = calls(posted)[name]
    answer = await call(home, method, url, ["open", "failed"], where=where)
    refused = problem(answer, 409, "conflict")
    assert (refused["reason"], refused["threadStatus"]) == ("status_mismatch", "running")
    found = (await home.http.get(f"/v1/threads/{posted['threadId']}")).json()
    assert (found["name"], found["status"]) == ("Old", "running")
    done = await call(home, method, url, ["open", "running"], where=where)
    assert done.is_success, done.text


async def test_the_status_is_the_streams_and_what_stood_still_is_repaired_first(
    home: Home, record: Record
):
    posted = await busy_thread(home)
    turn = await turns.begin(record, posted, lease_seconds=0.05)
    await turn.append(turns.Chunk(kind="text", message_id="m", delta="Half"))
    url = f"/v1/threads/{posted['threadId']}"
    body = {"name": "New", "ifStatus": ["failed"]}
    deadline = time.monotonic() + 10
    while (changed := await home.http.patch(url, json=body)).status_code == 409:
        assert time.monotonic() < deadline
    assert (changed.json()["name"], changed.json()["status"]) == ("New", "failed")
    again = await home.http.delete(url, params={"ifStatus": ["open", "failed"]})
    assert again.status_code == 204


async def test_a_guarded_delete_may_be_repeated(home: Home):
    thread = await home.thread()
    for _ in range(2):
        url = f"/v1/threads/{thread['id']}"
        answer = await home.http.delete(url, params={"ifStatus": "open"})
        assert answer.status_code == 204, answer.text


async def test_a_guard_that_cannot_be_meant_is_refused(home: Home):
    thread = await home.thread()
    url = f"/v1/threads/{thread['id']}"
    for method, params, body in (
        ("DELETE", {"ifStatus": "asleep"}, {}),
        ("PATCH", {}, {"ifStatus": ["asleep"]}),
        ("PATCH", {}, {"ifStatus": "open"}),
        ("PATCH", {"ifStatus": "open"}, {"ifStatus": ["open"]}),
    ):
        answer = await home.http.request(method, url, params=params, json=body)
        problem(answer, 422, "invalid")
    assert (await home.http.get(url)).status_code == 200


async def test_a_foreign_thread_tells_nothing_of_its_status(home: Home, make_home: Any):
    foreign = await (await make_home()).thread()
    url = f"/v1/threads/{foreign['id']}"
    for method, path in (("PATCH", url), ("DELETE", url), ("POST", f"{url}/cancel")):
        answer = await home.http.request(method, path, params={"ifStatus": "failed"}, json={})
        problem(answer, 404, "not_found")
