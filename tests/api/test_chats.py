"""ARC's chats over our own HTTP: one's own, and the sweep of the closed ones."""

from fastapi import FastAPI

from dispatch.operations.record import Record
from tests.api.conftest import MakeHome
from tests.api.homes import Home, client_of, created, problem


async def test_a_member_sees_its_own_active_chats_in_pages(
    home: Home, make_home: MakeHome, record: Record
) -> None:
    other = await make_home("Elsewhere")
    mine, theirs = (each.founded.member.id for each in (home, other))
    for chat_id in ("c/1", "c/2", "closed", "ü"):
        await record.chats.create_chat("demo", f"{mine}/{chat_id}", {"threadId": "t"})
    await record.chats.create_chat("demo", f"{theirs}/c/1")
    await record.chats.close_chat(f"{mine}/closed")
    first = (await home.http.get("/v1/chats?limit=2")).json()
    assert [each["chatId"] for each in first["chats"]] == ["c/1", "c/2"]
    assert first["chats"][0]["metadata"] == {"threadId": "t"}
    assert isinstance(first["chats"][0]["createdAt"], int)
    rest = (await home.http.get(f"/v1/chats?limit=2&cursor={first['nextCursor']}")).json()
    assert [each["chatId"] for each in rest["chats"]] == ["ü"]
    assert rest["nextCursor"] is None
    problem(await home.http.get("/v1/chats?cursor=zz"), 422, "invalid")


async def test_owners_and_the_operator_sweep_members_do_not(
    home: Home, app: FastAPI, record: Record
) -> None:
    for i in range(3):
        await record.chats.create_chat("demo", f"{home.founded.member.id}/{i}")
        await record.chats.close_chat(f"{home.founded.member.id}/{i}", ttl_seconds=0)
    counted = (await home.http.post("/v1/chats/sweep", json={"dryRun": True})).json()
    assert counted["dryRun"] is True
    assert counted["expired"] >= 3
    async with client_of(app, "op") as operator:
        swept = (await operator.post("/v1/chats/sweep")).json()
    assert swept == {**counted, "dryRun": False}
    assert (await home.http.post("/v1/chats/sweep")).json()["expired"] == 0
    member = created(await home.http.post("/v1/members", json={"name": "Bob"}))
    body = {"name": "t", "memberId": member["id"]}
    token = created(await home.http.post("/v1/tokens", json=body))["token"]
    async with client_of(app, token) as bob:
        problem(await bob.post("/v1/chats/sweep"), 403, "forbidden")
        assert (await bob.get("/v1/chats")).json() == {"chats": [], "nextCursor": None}
