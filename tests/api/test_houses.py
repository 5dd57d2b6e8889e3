import httpx
from fastapi import FastAPI

from dispatch import ids
from tests.api.conftest import MakeHome
from tests.api.homes import Home, client_of, created, problem


async def test_the_operator_founds_a_house_whose_token_works(
    app: FastAPI, nobody: httpx.AsyncClient
):
    made = created(
        await nobody.post(
            "/v1/houses",
            json={"name": "Casa", "ownerName": "Ada"},
            headers={"Authorization": "Bearer op"},
        )
    )
    assert made["member"]["role"] == "owner"
    assert made["token"].startswith("arbe_owner_")
    async with client_of(app, made["token"]) as owner:
        assert (await owner.get("/v1/houses/me")).json() == made["house"]
        assert (await owner.get("/v1/houses")).json()["houses"] == [made["house"]]
        primary = made["house"]["primaryThreadId"]
        found = (await owner.get(f"/v1/threads/{primary}/entries")).json()
        assert [each["payload"]["type"] for each in found["entries"]] == [
            "signal.thread.created"
        ]


async def test_a_member_founds_no_house(app: FastAPI, home: Home):
    member = created(await home.http.post("/v1/members", json={"name": "Bo"}))
    token = created(
        await home.http.post("/v1/tokens", json={"name": "bo", "memberId": member["id"]})
    )
    async with client_of(app, token["token"]) as bo:
        body = {"name": "Casa", "ownerName": "Bo"}
        problem(await bo.post("/v1/houses", json=body), 403, "forbidden")
        problem(await bo.post("/v1/members", json={"name": "Cy"}), 403, "forbidden")
        problem(await bo.patch("/v1/houses/me", json={"name": "Mine"}), 403, "forbidden")


async def test_renaming_a_house_is_told_once_on_its_primary_thread(home: Home):
    for _ in range(2):
        answer = await home.http.patch("/v1/houses/me", json={"name": "Villa"})
        assert answer.json()["name"] == "Villa"
    told = await home.payloads(str(home.founded.house.primary_thread_id))
    assert told[1:] == [{"type": "signal.house.renamed", "name": "Villa"}]


async def test_an_owner_sets_what_busy_agents_do_and_a_member_may_not(app: FastAPI, home: Home):
    before = (await home.http.get("/v1/houses/me")).json()
    assert "whenBusy" not in before
    changed = (await home.http.patch("/v1/houses/me", json={"whenBusy": "steer"})).json()
    assert changed == {**before, "whenBusy": "steer"}
    assert (await home.http.get("/v1/houses/me")).json() == changed
    assert (await home.http.patch("/v1/houses/me", json={"whenBusy": None})).json() == before
    told = await home.payloads(str(home.founded.house.primary_thread_id))
    assert [each["type"] for each in told] == ["signal.thread.created"]
    for bad in ("panic", "", 1):
        problem(await home.http.patch("/v1/houses/me", json={"whenBusy": bad}), 422, "invalid")
    member = created(await home.http.post("/v1/members", json={"name": "Bo"}))
    token = created(
        await home.http.post("/v1/tokens", json={"name": "bo", "memberId": member["id"]})
    )
    async with client_of(app, token["token"]) as bo:
        problem(await bo.patch("/v1/houses/me", json={"whenBusy": "write"}), 403, "forbidden")


async def test_another_house_is_unknown(home: Home, make_home: MakeHome):
    other = await make_home()
    problem(await home.http.get(f"/v1/houses/{other.founded.house.id}"), 404, "not_found")


async def test_a_removed_member_is_out_at_once(app: FastAPI, home: Home):
    member = created(await home.http.post("/v1/members", json={"name": "Bo"}))
    minted = created(
        await home.http.post("/v1/tokens", json={"name": "bo", "memberId": member["id"]})
    )
    async with client_of(app, minted["token"]) as bo:
        assert (await bo.get("/v1/threads")).status_code == 200
        assert (await home.http.delete(f"/v1/members/{member['id']}")).status_code == 204
        problem(await bo.get("/v1/threads"), 401, "unauthenticated")


async def test_the_last_owner_stays(home: Home):
    answer = await home.http.delete(f"/v1/members/{home.founded.member.id}")
    assert problem(answer, 409, "conflict")["reason"] == "last_owner"


async def test_a_revoked_token_is_refused_at_once_and_never_shown_again(
    app: FastAPI, home: Home
):
    minted = created(await home.http.post("/v1/tokens", json={"name": "laptop"}))
    listed = await home.http.get("/v1/tokens")
    assert minted["token"] not in listed.text
    assert minted["id"] in {each["id"] for each in listed.json()["tokens"]}
    async with client_of(app, minted["token"]) as laptop:
        assert (await laptop.get("/v1/houses/me")).status_code == 200
        assert (await home.http.delete(f"/v1/tokens/{minted['id']}")).status_code == 204
        problem(await laptop.get("/v1/houses/me"), 401, "unauthenticated")
    problem(await home.http.delete(f"/v1/tokens/{minted['id']}"), 404, "not_found")


async def test_agents_come_change_and_go_and_the_primary_thread_tells(home: Home):
    made = await home.agent("demo", config={"system": None})
    assert made["config"] == {"system": None}
    taken = await home.http.post("/v1/agents", json={"handle": "demo", "runner": "demo"})
    assert problem(taken, 409, "conflict")["reason"] == "handle_taken"
    changed = await home.http.patch("/v1/agents/@demo", json={"triggerMode": "always"})
    assert changed.json()["triggerMode"] == "always"
    assert changed.json()["config"] == {"system": None}
    assert (await home.http.get(f"/v1/agents/{made['id']}")).json() == changed.json()
    assert (await home.http.delete("/v1/agents/@demo")).status_code == 204
    problem(await home.http.get("/v1/agents/@demo"), 404, "not_found")
    told = await home.payloads(str(home.founded.house.primary_thread_id))
    assert [each["type"] for each in told[1:]] == [
        "signal.house.agent_created",
        "signal.house.agent_deleted",
    ]


async def test_a_handle_that_cannot_be_mentioned_is_refused(home: Home):
    for handle in ("", "Demo Bot", "9lives", "a" * 40):
        body = {"handle": handle, "runner": "demo"}
        problem(await home.http.post("/v1/agents", json=body), 422, "invalid")


async def test_an_environment_with_threads_stays(home: Home):
    made = created(await home.http.post("/v1/environments", json={"name": "box"}))
    assert made["provider"] == "local"
    thread = await home.thread(environment=made["id"])
    assert thread["environmentId"] == made["id"]
    busy = await home.http.delete(f"/v1/environments/{made['id']}")
    assert problem(busy, 409, "conflict")["reason"] == "environment_in_use"
    assert (await home.http.delete(f"/v1/threads/{thread['id']}")).status_code == 204
    assert (await home.http.delete(f"/v1/environments/{made['id']}")).status_code == 204
    unknown = await home.http.post("/v1/threads", json={"environment": str(ids.uuid7())})
    assert problem(unknown, 404, "not_found")["kind"] == "environment"


async def test_lists_are_paged_by_key(home: Home):
    made = [(await home.agent(f"bot{number}"))["id"] for number in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await home.http.get(f"/v1/agents?limit=2{cursor}")).json()
        seen += [agent["id"] for agent in page["agents"]]
        if page.get("nextCursor") is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == made[::-1]
