"""What becomes of an entry whose agent is busy, as a poster sees it over HTTP."""

from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from dispatch.operations.record import Record
from tests.api import turns
from tests.api.conftest import MakeHome
from tests.api.homes import Home, created, problem
from tests.api.turns import Turn

MEANWHILE = "signal.dispatch."


@dataclass
class Busy:
    """A direct thread whose agent is in the middle of a turn."""

    home: Home
    record: Record
    thread_id: str
    turn: Turn

    @property
    def active(self) -> str:
        return self.turn.fence.dispatch_id

    async def post(self, text: str = "and?", **fields: Any) -> dict[str, Any]:
        return created(await self.home.post(self.thread_id, text, **fields))

    async def view(self, posted: dict[str, Any], index: int = 0) -> dict[str, Any]:
        dispatch_id = posted["dispatches"][index]["id"]
        return await self.get(f"dispatches/{dispatch_id}")

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.home.http.get(f"/v1/threads/{self.thread_id}/{path}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def told(self, posted: dict[str, Any]) -> list[str]:
        """Return the types of what stands behind an entry."""
        page = await self.get(f"entries?after={posted['entry']['id']}")
        return [each["payload"]["type"].removeprefix(MEANWHILE) for each in page["entries"]]


@pytest_asyncio.fixture
async def busy(home: Home, record: Record) -> Busy:
    await home.agent()
    posted = created(await home.http.post("/v1/agents/@demo/entries", json={"text": "go"}))
    return Busy(home, record, posted["threadId"], await turns.begin(record, posted))


async def test_by_default_an_entry_waits_behind_the_turn(busy: Busy):
    posted = await busy.post()
    assert await busy.told(posted) == ["queued"]
    view = await busy.view(posted)
    assert (view["status"], view["receipt"], view["queuePosition"]) == ("queued", "accepted", 0)
    await busy.turn.end()
    following = await turns.begin(busy.record, posted)
    assert following.fence.dispatch_id == view["id"]
    view = await busy.view(posted)
    assert (view["status"], view["receipt"]) == ("running", "delivered")
    await following.end(failed="no luck")
    view = await busy.view(posted)
    assert (view["status"], view["receipt"]) == ("failed", "delivered")


async def test_reject_names_the_turn_and_leaves_nothing_behind(busy: Busy):
    before = await busy.get("entries?limit=200")
    answer = await busy.home.post(busy.thread_id, "now!", key="k", whenBusy="reject")
    refused = problem(answer, 409, "conflict")
    assert refused["reason"] == "busy"
    assert refused["dispatchId"] == busy.active
    assert refused["agentId"] == str(busy.turn.fence.lane)
    assert await busy.get("entries?limit=200") == before
    await busy.turn.end()
    created(await busy.home.post(busy.thread_id, "now!", key="k", whenBusy="reject"))


async def test_an_interrupting_entry_goes_first_and_the_others_keep_waiting(busy: Busy):
    waiting = await busy.post("first")
    posted = await busy.post("stop", whenBusy="interrupt")
    assert await busy.told(posted) == ["cancel_requested", "queued"]
    assert (await busy.view(posted))["queuePosition"] == 0
    assert (await busy.view(waiting))["queuePosition"] == 1
    assert (await busy.get(f"dispatches/{busy.active}"))["cancelDeadlineMs"] > 0


async def test_rollback_says_what_histories_leave_out(busy: Busy):
    posted = await busy.post("I meant", whenBusy="rollback")
    assert await busy.told(posted) == ["cancel_requested", "rolled_back", "queued"]
    page = await busy.get(f"entries?after={posted['entry']['id']}")
    rolled_back = page["entries"][1]["payload"]
    assert rolled_back["dispatchId"] == busy.active
    assert busy.active.startswith(rolled_back["entryId"])


async def test_a_steering_entry_is_delivered_into_the_turn_at_a_step(busy: Busy):
    posted = await busy.post("in English", whenBusy="steer")
    assert (await busy.view(posted))["receipt"] == "accepted"
    assert await busy.turn.take(4) == 1
    view = await busy.view(posted)
    assert (view["status"], view["receipt"]) == ("steered", "delivered")
    assert (view["into"], view["step"]) == (busy.active, 4)
    assert view["runId"] == busy.turn.fence.run_id
    answer = await busy.home.http.post(
        f"/v1/threads/{busy.thread_id}/dispatches/{view['id']}/cancel"
    )
    assert (answer.status_code, answer.json()) == (200, {"status": "steered"})
    await busy.turn.end()
    assert (await busy.home.http.get(f"/v1/threads/{busy.thread_id}")).json()[
        "status"
    ] == "open"


async def test_a_steering_entry_falls_through_to_a_turn_of_its_own(busy: Busy):
    posted = await busy.post("in English", whenBusy="steer")
    await busy.turn.end()
    view = await busy.view(posted)
    assert (view["status"], view["receipt"]) == ("queued", "fell_through")
    own = await turns.begin(busy.record, posted)
    assert own.fence.dispatch_id == view["id"]
    assert (await busy.view(posted))["receipt"] == "delivered"


async def test_write_asks_for_no_turn_while_the_agent_is_busy(busy: Busy):
    posted = await busy.post("for the record", whenBusy="write")
    assert posted["dispatches"] == []
    assert await busy.told(posted) == ["signal.entry.written"]
    await busy.turn.end()
    assert len((await busy.post("now you", whenBusy="write"))["dispatches"]) == 1


async def test_the_entry_decides_else_the_thread_else_the_house(busy: Busy):
    url = f"/v1/threads/{busy.thread_id}"
    assert (await busy.home.http.patch("/v1/houses/me", json={"whenBusy": "reject"})).is_success
    assert (await busy.home.post(busy.thread_id, "hi")).status_code == 409
    assert (await busy.home.http.patch(url, json={"whenBusy": "write"})).is_success
    assert (await busy.post())["dispatches"] == []
    assert len((await busy.post(whenBusy="enqueue"))["dispatches"]) == 1
    assert (await busy.home.http.patch(url, json={"whenBusy": None})).is_success
    direct = await busy.home.http.post("/v1/agents/@demo/entries", json={"text": "hi"})
    assert problem(direct, 409, "conflict")["reason"] == "busy"


async def test_an_entry_may_insist_on_the_threads_status(busy: Busy):
    answer = await busy.home.post(busy.thread_id, "hi", ifStatus=["open", "failed"])
    refused = problem(answer, 409, "conflict")
    assert (refused["reason"], refused["threadStatus"]) == ("status_mismatch", "running")
    await busy.post(ifStatus=["running"])
    url = "/v1/agents/@demo/entries"
    direct = await busy.home.http.post(url, json={"text": "hi", "ifStatus": ["open"]})
    assert problem(direct, 409, "conflict")["reason"] == "status_mismatch"


@pytest.mark.parametrize(
    "fields",
    [{"whenBusy": "panic"}, {"whenBusy": 1}, {"ifStatus": "open"}, {"ifStatus": ["busy"]}],
)
async def test_words_that_are_none_are_refused(home: Home, fields: dict[str, Any]):
    thread = await home.thread()
    problem(await home.post(thread["id"], "hi", **fields), 422, "invalid")


async def test_another_policy_under_the_same_key_is_another_entry(busy: Busy):
    await busy.post(key="k", whenBusy="write")
    again = await busy.home.post(busy.thread_id, "and?", key="k", whenBusy="write")
    assert again.json()["duplicate"] is True
    other = await busy.home.post(busy.thread_id, "and?", key="k", whenBusy="enqueue")
    assert problem(other, 409, "conflict")["reason"] == "key_reused"


async def test_a_waiting_entry_is_withdrawn_and_a_repeat_says_the_same(busy: Busy):
    posted = await busy.post("oops")
    url = f"/v1/threads/{busy.thread_id}/entries/{posted['entry']['id']}/withdraw"
    expected = {
        "entryId": posted["entry"]["id"],
        "withdrawn": [posted["dispatches"][0]["id"]],
        "delivered": [],
    }
    for _ in range(2):
        answer = await busy.home.http.post(url, json={"message": "a typo"})
        assert (answer.status_code, answer.json()) == (200, expected)
    assert await busy.told(posted) == ["queued", "cancelled"]
    view = await busy.view(posted)
    assert (view["status"], view["receipt"]) == ("cancelled", "withdrawn")
    assert (view["reason"], view["message"]) == ("withdrawn", "a typo")
    await busy.turn.end()
    row = await busy.home.http.get(f"/v1/threads/{busy.thread_id}")
    assert row.json()["status"] == "open"


async def test_withdrawing_the_only_work_brings_the_row_to_rest(home: Home):
    await home.agent()
    posted = created(await home.http.post("/v1/agents/@demo/entries", json={"text": "go"}))
    thread = f"/v1/threads/{posted['threadId']}"
    answer = await home.http.post(f"{thread}/entries/{posted['entry']['id']}/withdraw")
    assert answer.status_code == 200
    listed = (await home.http.get("/v1/threads?status=running")).json()
    assert listed["threads"] == []


async def test_what_was_delivered_is_not_withdrawn(busy: Busy):
    entry_id = busy.active.partition(".")[0]
    url = f"/v1/threads/{busy.thread_id}/entries/{entry_id}/withdraw"
    for _ in ("running", "ended"):
        refused = problem(await busy.home.http.post(url), 409, "conflict")
        assert (refused["reason"], refused["dispatchId"]) == (
            "already_delivered",
            busy.active,
        )
        await busy.turn.end()
    steering = await turns.begin(busy.record, await busy.post("go on"))
    posted = await busy.post("in English", whenBusy="steer")
    await steering.take(1)
    url = f"/v1/threads/{busy.thread_id}/entries/{posted['entry']['id']}/withdraw"
    problem(await busy.home.http.post(url), 409, "conflict")


async def test_of_two_agents_one_may_have_begun(home: Home, record: Record):
    await home.agent()
    await home.agent("other")
    thread = await home.thread()
    posted = created(await home.post(thread["id"], "@demo @other hi"))
    begun, waiting = (each["id"] for each in posted["dispatches"])
    await turns.begin(record, posted)
    url = f"/v1/threads/{thread['id']}/entries/{posted['entry']['id']}/withdraw"
    for _ in range(2):
        found = (await home.http.post(url)).json()
        assert (found["withdrawn"], found["delivered"]) == ([waiting], [begun])


async def test_only_an_entry_that_woke_somebody_is_withdrawn(
    busy: Busy, home: Home, make_home: MakeHome
):
    silent = created(await home.post((await home.thread())["id"], "to nobody"))
    posted = await busy.post()
    for thread_id, entry_id in (
        (silent["threadId"], silent["entry"]["id"]),
        (busy.thread_id, "001760000000123_0000000000"),
        (busy.thread_id, "what"),
        (silent["threadId"], posted["entry"]["id"]),
    ):
        url = f"/v1/threads/{thread_id}/entries/{entry_id}/withdraw"
        assert problem(await home.http.post(url), 404, "not_found")["kind"] == "entry"
    url = f"/v1/threads/{busy.thread_id}/entries/{posted['entry']['id']}/withdraw"
    stranger = await make_home()
    assert problem(await stranger.http.post(url), 404, "not_found")["kind"] == "thread"
