import asyncio
import uuid

from dispatch.ids import ThreadId
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine
from dispatch.stores.postgres import threads as rows
from tests.api.homes import Home, created, problem


async def test_creating_a_thread_dispatches_nothing(home: Home):
    await home.agent(triggerMode="always")
    thread = await home.thread(name="Notes", tags=["a", "b", "a"])
    assert thread["parent"] == {"kind": "house", "id": str(home.founded.house.id)}
    assert thread["status"] == "open"
    assert thread["tags"] == ["a", "b"]
    assert thread["usage"]["totalTokens"] == 0
    assert "pinnedAt" not in thread
    assert [each["type"] for each in await home.payloads(thread["id"])] == [
        "signal.thread.created"
    ]


async def test_a_first_message_is_posted_in_the_same_call(home: Home):
    agent = await home.agent()
    made = created(
        await home.http.post("/v1/threads", json={"parent": "@demo", "message": "hello"})
    )
    assert made["thread"]["parent"] == {"kind": "agent", "id": agent["id"]}
    assert [each["agentId"] for each in made["dispatches"]] == [agent["id"]]
    assert made["entry"]["at"] > 0


async def test_a_refused_first_message_leaves_no_thread(home: Home):
    before = (await home.http.get("/v1/threads")).json()
    body = {"name": "never", "message": " "}
    problem(await home.http.post("/v1/threads", json=body), 422, "invalid")
    assert (await home.http.get("/v1/threads")).json() == before


async def test_one_key_is_one_thread_however_many_ask(home: Home):
    answers = await asyncio.gather(
        *(home.http.post("/v1/threads", json={"key": "user:7"}) for _ in range(8))
    )
    assert len({answer.json()["thread"]["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]


async def test_a_sub_job_is_idle_and_goes_with_its_parent(home: Home):
    parent = await home.thread()
    child = await home.thread(parent=parent["id"])
    assert child["status"] == "idle"
    assert child["parentThreadId"] == parent["id"]
    assert (await home.http.delete(f"/v1/threads/{parent['id']}")).status_code == 204
    problem(await home.http.get(f"/v1/threads/{child['id']}"), 410, "gone")


async def test_deleting_leaves_no_key_and_a_repeat_converges(home: Home, record: Record):
    await home.agent()
    thread = await home.thread()
    assert (await home.post(thread["id"], "@demo hi")).status_code == 201
    for _ in range(2):
        assert (await home.http.delete(f"/v1/threads/{thread['id']}")).status_code == 204
    keys = await record.connection.call("KEYS", f"*{thread['id']}*")
    assert keys == [f"{{arbe-thread-{thread['id']}}}:state".encode()]
    due = await record.connection.call("ZRANGE", "arbe:due", 0, -1)
    assert not [member for member in due if thread["id"].encode() in member]
    problem(await home.post(thread["id"], "late"), 410, "gone")


async def test_a_delete_that_died_half_way_is_finished_by_its_repeat(
    home: Home, record: Record
):
    parent = await home.thread()
    child = await home.thread(parent=parent["id"])
    member_id = home.founded.member.id
    async with engine.as_member(record.members, member_id) as connection:
        await rows.delete_tree(connection, thread_id=ThreadId(uuid.UUID(parent["id"])))
    assert (await home.http.delete(f"/v1/threads/{parent['id']}")).status_code == 204
    for thread_id in (parent["id"], child["id"]):
        keys = await record.connection.call("KEYS", f"*{thread_id}*")
        assert keys == [f"{{arbe-thread-{thread_id}}}:state".encode()]


async def test_the_primary_thread_stays(home: Home):
    primary = home.founded.house.primary_thread_id
    answer = await home.http.delete(f"/v1/threads/{primary}")
    assert problem(answer, 409, "conflict")["reason"] == "primary_thread"


async def test_naming_pinning_and_tagging(home: Home):
    thread = await home.thread(name="Old")
    url = f"/v1/threads/{thread['id']}"
    pinned = (await home.http.patch(url, json={"pinned": True, "name": "New"})).json()
    assert pinned["pinnedAt"] > 0
    again = (await home.http.patch(url, json={"pinned": True, "tags": ["x"]})).json()
    assert (again["pinnedAt"], again["tags"]) == (pinned["pinnedAt"], ["x"])
    bare = (await home.http.patch(url, json={"pinned": False, "name": None})).json()
    assert "pinnedAt" not in bare
    assert "name" not in bare
    told = await home.payloads(thread["id"])
    assert [(each["type"], each.get("name")) for each in told] == [
        ("signal.thread.created", "Old"),
        ("signal.thread.renamed", "New"),
        ("signal.thread.renamed", None),
    ]


async def test_a_thread_says_what_busy_agents_do_or_inherits_it(home: Home):
    assert "whenBusy" not in await home.thread()
    thread = await home.thread(whenBusy="reject")
    assert thread["whenBusy"] == "reject"
    url = f"/v1/threads/{thread['id']}"
    assert (await home.http.patch(url, json={"whenBusy": "steer"})).json()[
        "whenBusy"
    ] == "steer"
    assert (await home.http.patch(url, json={"name": "x"})).json()["whenBusy"] == "steer"
    assert "whenBusy" not in (await home.http.patch(url, json={"whenBusy": None})).json()
    problem(await home.http.patch(url, json={"whenBusy": "panic"}), 422, "invalid")
    problem(await home.http.post("/v1/threads", json={"whenBusy": ""}), 422, "invalid")


async def test_lists_filter_and_page(home: Home):
    await home.agent()
    notes = await home.thread(name="Release notes", tags=["release"])
    direct = await home.thread(parent="@demo")
    child = await home.thread(parent=notes["id"])

    async def listed(query: str) -> list[str]:
        answer = await home.http.get(f"/v1/threads?{query}")
        assert answer.status_code == 200, answer.text
        return [thread["id"] for thread in answer.json()["threads"]]

    primary = str(home.founded.house.primary_thread_id)
    assert await listed("") == [child["id"], direct["id"], notes["id"], primary]
    assert await listed("tag=release") == [notes["id"]]
    assert await listed("q=RELEASE") == [notes["id"]]
    assert await listed("parent=@demo") == [direct["id"]]
    assert await listed(f"parent={notes['id']}&status=idle") == [child["id"]]
    assert await listed("parent=house") == [notes["id"], primary]
    assert await listed("pinned=true") == []
    page = (await home.http.get("/v1/threads?limit=3")).json()
    assert await listed(f"limit=3&cursor={page['nextCursor']}") == [primary]


async def test_a_prefix_names_a_thread_and_an_ambiguous_one_none(home: Home):
    thread = await home.thread()
    found = await home.http.get(f"/v1/threads/{thread['id'][:34]}")
    assert found.json()["id"] == thread["id"]
    await home.thread()
    problem(await home.http.get(f"/v1/threads/{thread['id'][:5]}"), 422, "ambiguous_ref")


async def test_a_thread_overrides_whom_it_wakes(home: Home):
    await home.agent("demo")
    thread = await home.thread()
    assert (await home.post(thread["id"], "hello")).json()["dispatches"] == []
    url = f"/v1/threads/{thread['id']}/agents/@demo"
    answer = await home.http.put(url, json={"triggerMode": "always"})
    assert answer.json()["triggerMode"] == "always"
    assert len((await home.post(thread["id"], "hello")).json()["dispatches"]) == 1
    await home.http.put(url, json={"triggerMode": "never"})
    assert (await home.post(thread["id"], "@demo hello")).json()["dispatches"] == []


async def test_a_get_brings_the_row_up_to_its_stream(home: Home):
    await home.agent()
    thread = await home.thread()
    posted = (await home.post(thread["id"], "@demo hi")).json()
    url = f"/v1/threads/{thread['id']}"
    assert (await home.http.get(url)).json()["status"] == "running"
    (dispatch,) = posted["dispatches"]
    found = (await home.http.get(f"{url}/dispatches/{dispatch['id']}")).json()
    assert found["status"] == "queued"
    ended = await home.http.post(f"{url}/dispatches/{dispatch['id']}/cancel")
    assert (ended.status_code, ended.json()) == (200, {"status": "cancelled"})
    assert (await home.http.get(url)).json()["status"] == "open"
    done = (await home.http.post(f"{url}/reconcile")).json()
    assert done == {"before": "open", "after": "open", "changed": False}
    diagnosis = await home.http.get(f"{url}/diagnose")
    assert diagnosis.status_code == 200, diagnosis.text
    assert diagnosis.json()["stage"] == "cancelled"


async def test_prune_counts(home: Home):
    answer = await home.http.post("/v1/threads/prune", json={"dryRun": True})
    assert answer.json()["dryRun"] is True
    assert (await home.http.post("/v1/threads/prune")).status_code == 200
