"""Whom entries wake, and how one says so: by HTTP, by the library, by the command line."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from dispatch.client import Client
from tests.api.homes import Home, problem
from tests.api.test_cli import Arbe, arbe

__all__ = ["arbe"]


async def woken(home: Home, thread_id: str, text: str, **fields: Any) -> list[str]:
    """Post; return the handles of the agents that are dispatched."""
    answer = await home.post(thread_id, text, **fields)
    assert answer.status_code == 201, answer.text
    listed = (await home.http.get("/v1/agents")).json()["agents"]
    handles = {agent["id"]: agent["handle"] for agent in listed}
    return [handles[each["agentId"]] for each in answer.json()["dispatches"]]


async def test_a_mention_wins_over_always(home: Home) -> None:
    await home.agent("ear", triggerMode="always")
    await home.agent("two")
    thread = await home.thread()
    assert await woken(home, thread["id"], "hello") == ["ear"]
    assert await woken(home, thread["id"], "@two hello") == ["two"]
    assert await woken(home, thread["id"], "hello", mentions=["@two"]) == ["two"]
    assert await woken(home, thread["id"], "@ear and @two, hello") == ["ear", "two"]
    assert await woken(home, thread["id"], "`@two` \\@two a@two.org @ghost") == ["ear"]


async def test_who_is_named_in_vain_is_told_to_the_poster(home: Home) -> None:
    agent = await home.agent("quiet", triggerMode="never")
    await home.agent("ear", triggerMode="always")
    thread = await home.thread()
    told = [{"agentId": agent["id"], "handle": "quiet"}]
    first = (await home.post(thread["id"], "@quiet hello", key="k")).json()
    assert (first["dispatches"], first["muted"]) == ([], told)
    again = (await home.post(thread["id"], "@quiet hello", key="k")).json()
    assert (again["duplicate"], again["muted"]) == (True, told)
    named = (await home.post(thread["id"], "hello", mentions=["quiet", "ear"])).json()
    assert (len(named["dispatches"]), named["muted"]) == (1, told)
    assert "muted" not in (await home.post(thread["id"], "hello")).json()
    made = await home.http.post("/v1/threads", json={"message": "@quiet hi"})
    assert made.json()["muted"] == told


async def test_an_unknown_handle_is_an_error_only_where_it_is_meant_as_one(home: Home) -> None:
    thread = await home.thread()
    assert await woken(home, thread["id"], "@ghost hello") == []
    refused = await home.post(thread["id"], "hello", mentions=["ghost"])
    problem(refused, 404, "not_found")


async def test_a_thread_says_otherwise_than_the_house_until_it_is_reset(home: Home) -> None:
    agent = await home.agent("demo")
    thread = await home.thread()
    url = f"/v1/threads/{thread['id']}/agents"

    async def holds() -> list[tuple[str, str]]:
        found = (await home.http.get(url)).json()["agents"]
        assert [each["agentId"] for each in found] == [agent["id"]]
        return [(each["triggerMode"], each["source"]) for each in found]

    assert await holds() == [("mention", "house")]
    await home.http.patch("/v1/agents/@demo", json={"triggerMode": "always"})
    assert await holds() == [("always", "house")]
    assert await woken(home, thread["id"], "hello") == ["demo"]
    await home.http.put(f"{url}/@demo", json={"triggerMode": "never"})
    assert await holds() == [("never", "thread")]
    assert await woken(home, thread["id"], "hello") == []
    for _ in range(2):
        assert (await home.http.delete(f"{url}/@demo")).status_code == 204
    assert await holds() == [("always", "house")]
    assert await woken(home, thread["id"], "hello") == ["demo"]
    wrong = await home.http.put(f"{url}/@demo", json={"triggerMode": "loud"})
    problem(wrong, 422, "invalid")
    problem(await home.http.delete(f"{url}/@ghost"), 404, "not_found")


async def test_a_direct_thread_wakes_its_agent_whatever_the_house_says(home: Home) -> None:
    await home.agent("demo", triggerMode="never")
    await home.agent("two")
    thread = await home.thread(parent="@demo")
    url = f"/v1/threads/{thread['id']}/agents"
    assert await woken(home, thread["id"], "hello") == ["demo"]
    assert await woken(home, thread["id"], "what does @two say?") == ["demo", "two"]
    await home.http.delete(f"{url}/@demo")
    found = (await home.http.get(url)).json()["agents"]
    assert (found[0]["triggerMode"], found[0]["source"]) == ("always", "direct")
    assert await woken(home, thread["id"], "hello") == ["demo"]
    await home.http.put(f"{url}/@demo", json={"triggerMode": "never"})
    assert await woken(home, thread["id"], "hello") == []


async def test_a_limit_of_hops_is_checked_where_it_is_said(home: Home) -> None:
    config = {"maxAgentHops": "many"}
    body = {"handle": "demo", "runner": "demo", "config": config}
    problem(await home.http.post("/v1/agents", json=body), 422, "invalid")
    await home.agent("demo", config={"maxAgentHops": 0})
    changed = await home.http.patch("/v1/agents/@demo", json={"config": config})
    problem(changed, 422, "invalid")
    problem(await home.http.post("/v1/threads", json={"config": config}), 422, "invalid")
    await home.thread(config={"maxAgentHops": 2})


async def test_another_house_sees_nothing_of_a_threads_agents(home: Home, make_home) -> None:
    await home.agent("demo")
    thread = await home.thread()
    other = await make_home("Other")
    url = f"/v1/threads/{thread['id']}/agents"
    problem(await other.http.get(url), 404, "not_found")


@pytest_asyncio.fixture
async def client(api_url: str, home: Home) -> AsyncIterator[Client]:
    async with Client(api_url, home.founded.secret) as made:
        yield made


async def test_the_library_sets_and_resets_modes(client: Client, home: Home) -> None:
    await home.agent("demo")
    thread = await home.thread()
    await client.threads.set_trigger(thread["id"], "@demo", "never")
    (found,) = (await client.threads.agents(thread["id"]))["agents"]
    assert (found["handle"], found["triggerMode"]) == ("demo", "never")
    posted = await client.entries.create(thread["id"], "@demo hi")
    assert [each["handle"] for each in posted["muted"]] == ["demo"]
    await client.threads.reset_trigger(thread["id"], "@demo")
    (found,) = (await client.threads.agents(thread["id"]))["agents"]
    assert found["source"] == "house"
    changed = await client.agents.update("@demo", {"triggerMode": "always"})
    assert changed["triggerMode"] == "always"


async def test_the_command_line_sets_and_resets_modes(arbe: Arbe, home: Home) -> None:
    thread = (await home.thread())["id"]
    changed = (
        await arbe("agent", "update", "@demo", "--trigger-mode", "always", "--json")
    ).json
    assert changed["triggerMode"] == "always"
    asked = ("thread", "agents", "set", thread, "@demo", "never", "--json")
    assert (await arbe(*asked)).json["triggerMode"] == "never"
    listed = await arbe("thread", "agents", "list", thread)
    assert listed.out.split("\t")[:3] == ["demo", "never", "thread"]
    assert (await arbe("thread", "agents", "reset", thread, "@demo")).code == 0
    listed = (await arbe("thread", "agents", "list", thread, "--json")).json
    assert [each["source"] for each in listed["agents"]] == ["house"]
    wrong = await arbe("thread", "agents", "set", thread, "@demo", "loud")
    assert wrong.code == 1
    nothing = await arbe("agent", "update", "@demo")
    assert (nothing.code, "nothing to change" in nothing.err) == (64, True)
