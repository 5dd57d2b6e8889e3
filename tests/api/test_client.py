"""The client library against the real API: answers, errors, repeats."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from dispatch import client as library
from dispatch.client import Client
from dispatch.client.problems import UnexpectedAnswer
from dispatch.errors import (
    Conflict,
    Gone,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from dispatch.operations import narrate
from dispatch.operations.record import Record
from dispatch.stores.postgres import idempotency
from tests.api.conftest import MakeHome
from tests.api.homes import Home
from tests.api.loopback import losing_answers, serving


@pytest_asyncio.fixture
async def client(api_url: str, home: Home) -> AsyncIterator[Client]:
    await home.agent()
    async with Client(api_url, home.founded.secret) as made:
        yield made


async def test_the_same_key_posts_once(client: Client) -> None:
    first = await client.entries.create("@demo", "hello", key="k")
    again = await client.entries.create("@demo", "hello", key="k")
    assert again["entry"] == first["entry"]
    assert again["duplicate"] is True
    assert [each["id"] for each in first["dispatches"]] == [f"{first['entry']['id']}.0"]


async def test_an_agents_id_finds_its_direct_thread_as_its_handle_does(client: Client) -> None:
    agent = await client.agents.get("@demo")
    first = await client.entries.create("@demo", "hello")
    assert (await client.entries.create(agent["id"], "hello"))["threadId"] == first["threadId"]


async def test_history_is_what_a_page_lists(client: Client) -> None:
    posted = await client.entries.create("@demo", "hello")
    page = await client.entries.list(posted["threadId"])
    history = [entry async for entry in client.entries.history(posted["threadId"])]
    assert history == page["entries"]
    assert [entry["payload"]["type"] for entry in history] == [
        "signal.thread.created",
        "chat",
        "signal.dispatch.queued",
    ]


async def test_a_follower_hears_what_is_posted_and_ends_with_the_thread(client: Client) -> None:
    made = await client.threads.create(name="t")
    thread = made["thread"]["id"]
    heard: list[str] = []
    async with asyncio.timeout(60):
        async for entry in client.entries.follow(thread):
            heard.append(entry["payload"]["type"])
            if len(heard) == 1:
                await client.entries.create(thread, "one")
            if heard[-1] == "chat":
                await client.threads.delete(thread)
    assert heard == ["signal.thread.created", "chat"]
    with pytest.raises(Gone):
        await client.threads.get(thread)


async def test_refusals_are_the_servers_errors_with_its_sentences(
    client: Client, api_url: str, make_home: MakeHome
) -> None:
    foreign = (await (await make_home()).thread(name="theirs"))["id"]
    with pytest.raises(NotFound, match=f"No thread '{foreign}'") as caught:
        await client.threads.get(foreign)
    assert caught.value.fields["kind"] == "thread"
    await client.entries.create("@demo", "hello", key="k")
    with pytest.raises(Conflict) as conflict:
        await client.entries.create("@demo", "other", key="k")
    assert conflict.value.reason == "key_reused"
    with pytest.raises(Invalid):
        await client.entries.create("@demo", " ")
    with pytest.raises(Invalid, match="JSON"):
        await client.entries.create("@demo", "\ud800")
    with pytest.raises(Invalid, match="not a reference"):
        await client.threads.get("..")
    async with Client(api_url, "arbe_member_unknown") as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.threads.list()


async def test_a_post_whose_answer_was_lost_is_repeated_and_stands_once(
    client: Client, api_url: str, home: Home
) -> None:
    async with (
        losing_answers(api_url, losses=2) as proxy,
        Client(proxy.url, home.founded.secret) as unlucky,
    ):
        posted = await unlucky.entries.create("@demo", "hello")
    assert proxy.requests == 3
    history = [entry async for entry in client.entries.history(posted["threadId"])]
    assert [e["payload"]["type"] for e in history].count("chat") == 1


async def test_a_change_whose_answer_was_lost_is_repeated_and_made_once(
    client: Client, api_url: str, home: Home
) -> None:
    async with (
        losing_answers(api_url, losses=0) as proxy,
        Client(proxy.url, home.founded.secret) as unlucky,
    ):

        async def losing(call: Awaitable[Any]) -> Any:
            proxy.losses, proxy.requests = 2, 0
            answer = await call
            assert proxy.requests == 3
            return answer

        thread = (await losing(unlucky.threads.create(name="once")))["thread"]
        member = await losing(unlucky.members.create("Bo"))
        token = await losing(unlucky.tokens.create("t", member_id=member["id"]))
        agent = await losing(unlucky.agents.create("once", runner="demo"))
        founded = await losing(unlucky.houses.create("Casa", owner_name="Cy"))
        await losing(unlucky.tokens.revoke(token["id"]))
        await losing(unlucky.members.delete(member["id"]))
        await losing(unlucky.agents.delete(agent["id"]))
        await losing(unlucky.threads.update(thread["id"], {"name": "named"}))
    names = [each.get("name") for each in (await client.threads.list())["threads"]]
    assert (names.count("once"), names.count("named")) == (0, 1)
    assert [each["name"] for each in (await client.members.list())["members"]] == ["Ada"]
    async with Client(api_url, founded["token"]) as owner:
        assert (await owner.houses.get())["id"] == founded["house"]["id"]


async def test_ones_own_key_makes_two_calls_one(client: Client) -> None:
    first = await client.members.create("Bo", key="k")
    assert await client.members.create("Bo", key="k") == first
    with pytest.raises(Conflict) as caught:
        await client.members.create("Cy", key="k")
    assert caught.value.reason == "key_reused"
    made = [await client.threads.create(idempotency_key="t") for _ in range(2)]
    assert made[0] == made[1]


async def test_a_call_whose_key_is_at_work_waits_for_its_answer_beyond_its_patience(
    client: Client, api_url: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep, woken = asyncio.Event(), asyncio.Event()

    async def sleep(_record: Record) -> None:
        monkeypatch.undo()
        asleep.set()
        await woken.wait()

    monkeypatch.setattr(narrate, "ready", sleep)
    async with Client(api_url, home.founded.secret, patience_seconds=0.0) as hasty:
        first = asyncio.create_task(client.agents.create("slow", runner="demo", key="k"))
        await asleep.wait()
        second = asyncio.create_task(hasty.agents.create("slow", runner="demo", key="k"))
        in_use = idempotency.in_use
        refused = asyncio.Event()

        def refuse(**fields: float) -> Conflict:
            refused.set()
            return in_use(**fields)

        monkeypatch.setattr(idempotency, "in_use", refuse)
        await refused.wait()
        woken.set()
        assert await first == await second


async def test_an_absent_api_is_unavailable_after_bounded_patience(dead_port: int) -> None:
    started = time.monotonic()
    async with Client(
        f"http://127.0.0.1:{dead_port}", "arbe_member_x", patience_seconds=0.3
    ) as client:
        with pytest.raises(Unavailable, match="arbe up"):
            await client.threads.list()
        with pytest.raises(Unavailable):
            _ = [each async for each in client.entries.follow("0198f2c4")]
    assert time.monotonic() - started < 60


async def test_a_server_that_is_no_arbe_is_told_from_one_that_is_away() -> None:
    async def answer(request: Request) -> Response:
        return HTMLResponse("<html>", int(request.path_params["ref"]))

    async with (
        serving(Starlette(routes=[Route("/v1/threads/{ref}", answer)])) as url,
        Client(url, "arbe_member_x", patience_seconds=0.2) as client,
    ):
        with pytest.raises(UnexpectedAnswer, match="ARBE_URL"):
            await client.threads.get("404")
        with pytest.raises(UnexpectedAnswer):
            await client.threads.get("200")
        with pytest.raises(Unavailable, match="proxy"):
            await client.threads.get("502")


async def test_the_synchronous_door_posts_from_many_threads_at_once(
    client: Client, api_url: str, home: Home
) -> None:
    def post(number: int) -> str:
        posted = library.post_entry(
            "@demo", f"n {number}", key=f"k{number}", url=api_url, token=home.founded.secret
        )
        return str(posted["entry"]["id"])

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.to_thread(post, number)) for number in range(20)]
    assert len({task.result() for task in tasks}) == 20
    again = await asyncio.to_thread(post, 3)
    assert again == tasks[3].result()


async def test_the_synchronous_door_gives_up_in_time_and_says_what_is_unknown() -> None:
    async def never(_request: Request) -> Response:
        await asyncio.sleep(30)
        return Response()

    route = Route("/v1/threads/{ref}/entries", never, methods=["POST"])
    async with serving(Starlette(routes=[route])) as url:
        with pytest.raises(Unavailable, match="same `key`"):
            await asyncio.to_thread(
                library.post_entry, "0198", "x", url=url, token="t", timeout_seconds=0.3
            )


FORKING = """
import os, sys
from dispatch.client import post_entry
post_entry("@demo", "parent before", key="a")
child = os.fork()
if child == 0:
    post_entry("@demo", "child", key="b")
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(post_entry("@demo", "parent after", key="c")["threadId"])
"""


async def test_the_synchronous_door_works_on_both_sides_of_a_fork(
    client: Client, api_url: str, home: Home, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "ARBE_URL": api_url,
        "ARBE_TOKEN": home.founded.secret,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", FORKING],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        timeout=30,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    history = [entry async for entry in client.entries.history(done.stdout.strip())]
    said = [e["payload"]["text"] for e in history if e["payload"]["type"] == "chat"]
    assert said == ["parent before", "child", "parent after"]
