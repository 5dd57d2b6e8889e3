import asyncio

import msgspec

from dispatch.api.shapes.entries import PostEntry
from dispatch.operations.post_entry import Draft
from tests.api.conftest import MakeHome
from tests.api.homes import Home, created, problem


async def test_an_entry_wakes_whom_it_mentions(home: Home):
    agent = await home.agent()
    await home.agent("other")
    thread = await home.thread()
    made = created(await home.post(thread["id"], "@demo run: uname -a"))
    assert made["threadId"] == thread["id"]
    assert made["dispatches"] == [{"id": f"{made['entry']['id']}.0", "agentId": agent["id"]}]
    assert "duplicate" not in made
    chat, queued = (await home.payloads(thread["id"]))[1:]
    assert (chat["text"], chat["by"]["name"]) == ("@demo run: uname -a", "Ada")
    assert queued["dispatchId"] == made["dispatches"][0]["id"]


async def test_the_same_key_is_the_same_entry(home: Home):
    thread = await home.thread()
    first = created(await home.post(thread["id"], "hi", key="k"))
    again = await home.post(thread["id"], "hi", key="k")
    assert again.status_code == 200
    assert again.json() == {**first, "duplicate": True}
    other = problem(await home.post(thread["id"], "else", key="k"), 409, "conflict")
    assert other["reason"] == "key_reused"


async def test_a_repeat_is_the_same_entry_though_the_house_has_changed(home: Home):
    thread = await home.thread()
    first = created(await home.post(thread["id"], "@late hi", key="k"))
    await home.agent("late")
    again = await home.post(thread["id"], "@late hi", key="k")
    assert again.json() == {**first, "duplicate": True}


async def test_many_posts_with_one_key_make_one_entry(home: Home):
    thread = await home.thread()
    answers = await asyncio.gather(*(home.post(thread["id"], "hi", key="k") for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len(await home.payloads(thread["id"])) == 2


async def test_an_agent_created_elsewhere_is_mentioned_at_once(home: Home):
    thread = await home.thread()
    created(await home.post(thread["id"], "warm the cache"))
    await home.agent("late")
    assert len(created(await home.post(thread["id"], "@late hi"))["dispatches"]) == 1


async def test_an_explicit_mention_of_nobody_is_refused(home: Home):
    thread = await home.thread()
    answer = await home.http.post(
        f"/v1/threads/{thread['id']}/entries", json={"text": "hi", "mentions": ["ghost"]}
    )
    assert problem(answer, 404, "not_found")["ref"] == "@ghost"
    assert len(await home.payloads(thread["id"])) == 1


async def test_posting_to_an_agent_makes_one_direct_thread(home: Home):
    agent = await home.agent()
    answers = await asyncio.gather(
        *(home.http.post("/v1/agents/@demo/entries", json={"text": "hi"}) for _ in range(5))
    )
    made = [created(answer) for answer in answers]
    assert len({each["threadId"] for each in made}) == 1
    assert {each["dispatches"][0]["agentId"] for each in made} == {agent["id"]}


async def test_entries_are_paged_both_ways(home: Home):
    thread = await home.thread()
    posted = [
        created(await home.post(thread["id"], f"{number}"))["entry"]["id"]
        for number in range(5)
    ]
    url = f"/v1/threads/{thread['id']}/entries"

    async def page(query: str) -> tuple[list[str], str | None]:
        found = (await home.http.get(f"{url}?{query}")).json()
        return [entry["id"] for entry in found["entries"]], found["nextCursor"]

    assert await page(f"after={posted[0]}&limit=2") == (posted[1:3], posted[2])
    assert await page(f"after={posted[2]}&limit=2") == (posted[3:], None)
    assert await page("before=end&limit=2") == (posted[3:], posted[3])
    assert await page(f"before={posted[3]}&limit=2") == (posted[1:3], posted[1])
    assert await page(f"after={posted[-1]}") == ([], None)


async def test_a_full_queue_says_when_to_come_back(home: Home, make_home: MakeHome):
    await home.agent()
    thread = await home.thread()
    for number in range(100):
        created(await home.post(thread["id"], f"@demo {number}"))
    answer = await home.post(thread["id"], "@demo one too many")
    problem(answer, 429, "too_busy")
    assert int(answer.headers["retry-after"]) > 0


def test_the_described_body_is_the_decoded_one():
    described = {field.alias for field in PostEntry.model_fields.values()}
    assert described == {field.encode_name for field in msgspec.structs.fields(Draft)}
