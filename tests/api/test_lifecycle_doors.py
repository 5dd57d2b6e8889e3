"""A thread's life by the client library and the CLI."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import pytest_asyncio
import sqlalchemy as sa

from dispatch.client import Client
from dispatch.errors import Gone, Invalid
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine
from dispatch.stores.postgres.tables import threads
from tests.api.homes import Home
from tests.api.test_cli import Arbe, arbe

__all__ = ["arbe"]


@pytest_asyncio.fixture
async def client(api_url: str, home: Home) -> AsyncIterator[Client]:
    async with Client(api_url, home.founded.secret) as made:
        yield made


async def expire(record: Record, home: Home, thread_id: str) -> None:
    past = datetime.now(UTC) - timedelta(minutes=1)
    async with engine.as_member(record.members, home.founded.member.id) as connection:
        await connection.execute(
            sa.update(threads).where(threads.c.id == UUID(thread_id)).values(expires_at=past)
        )
    record.forget()


async def test_a_user_a_session_and_a_topic_each_have_one_thread(client: Client) -> None:
    answers = await asyncio.gather(*(client.threads.for_user("17") for _ in range(5)))
    assert len({each["id"] for each in answers}) == 1
    user = answers[0]
    assert (user["key"], user["metadata"]) == ("user:17", {"user_id": "17"})
    session = await client.threads.for_session("17", "s1", expires_in=60)
    assert session["expiresAt"] - session["createdAt"] == pytest.approx(60_000, abs=30_000)
    assert (await client.threads.for_session("17", "s1"))["id"] == session["id"]
    topic = await client.threads.for_topic("17", "billing")
    assert topic["metadata"] == {"user_id": "17", "topic": "billing"}
    assert len({user["id"], session["id"], topic["id"]}) == 3
    found = (await client.threads.list(key_prefix="user:17:"))["threads"]
    assert {each["id"] for each in found} == {session["id"], topic["id"]}


async def test_no_user_gets_anothers_thread_by_a_colon(client: Client) -> None:
    one = await client.threads.for_topic("a", "b:topic:c")
    other = await client.threads.for_topic("a:topic:b", "c")
    assert one["id"] != other["id"]


async def test_a_session_that_is_over_begins_anew(
    client: Client, home: Home, record: Record
) -> None:
    first = await client.threads.for_session("17", "s1")
    await expire(record, home, first["id"])
    with pytest.raises(Gone, match="has expired"):
        await client.entries.create(first["id"], "late")
    assert (await client.threads.for_session("17", "s1"))["id"] != first["id"]


async def test_metadata_and_an_end_go_through_the_library(client: Client) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    made = (await client.threads.create(metadata={"a": 1}, expires_at=at))["thread"]
    assert made["expiresAt"] == int(at.timestamp() * 1000)
    changed = await client.threads.update(
        made["id"], {"metadata": {"a": None, "b": 2}, "expiresAt": None}
    )
    assert (changed["metadata"], changed.get("expiresAt")) == ({"b": 2}, None)
    with pytest.raises(Invalid, match="exclude"):
        await client.threads.create(expires_at=at, expires_in=5)


async def test_a_cleanup_sums_its_batches_and_tells_of_each(client: Client) -> None:
    made = [(await client.threads.create(tags=["old"]))["thread"]["id"] for _ in range(53)]
    await asyncio.sleep(0.02)
    told: list[int] = []
    found = await client.threads.cleanup(0.001, tag="old", dry_run=True)
    assert (found["removable"], found["deleted"]) == (53, 0)
    done = await client.threads.cleanup(
        0.001, tag="old", on_batch=lambda total: told.append(total["deleted"])
    )
    assert (done["deleted"], done["threadIds"], told) == (53, made, [50])
    assert (await client.threads.cleanup(0.001, tag="old"))["deleted"] == 0


async def test_the_cli_makes_changes_counts_and_cleans_up(arbe: Arbe) -> None:
    made = await arbe(
        *("thread", "create", "me", "--key", "k:1", "--expires-in", "24h"),
        *("--metadata", '{"user_id": "17"}', "--json"),
    )
    thread = made.json["thread"]
    assert thread["metadata"] == {"user_id": "17"}
    assert thread["expiresAt"] - thread["createdAt"] == pytest.approx(86_400_000, abs=60_000)
    changed = await arbe(
        *("thread", "update", thread["id"], "--metadata", '{"user_id": null, "n": 1}'),
        *("--expires-in", "", "--json"),
    )
    assert changed.json["metadata"] == {"n": 1}
    assert "expiresAt" not in changed.json
    await arbe("thread", "entries", "create", thread["id"], "a note")
    counted = await arbe("thread", "stats", thread["id"], "--json")
    assert (counted.json["messageCount"], counted.json["state"]) == (1, "idle")
    shown = await arbe("thread", "stats", thread["id"])
    assert "messageCount" in shown.out
    seen = await arbe(
        "thread",
        "cleanup",
        "--older-than",
        "0.001s",
        "--key-prefix",
        "k:",
        "--dry-run",
        "--json",
    )
    assert seen.json["threadIds"] == [thread["id"]]
    done = await arbe(
        "thread", "cleanup", "--older-than", "0.001s", "--key-prefix", "k:", "--yes", "--json"
    )
    assert (done.json["deleted"], done.json["threadIds"]) == (1, [thread["id"]])


@pytest.mark.parametrize(
    "arguments",
    [
        ("cleanup", "--yes"),
        ("cleanup", "--older-than", "soon", "--yes"),
        ("create", "me", "--expires-in", "5"),
        ("create", "me", "--metadata", "[1]"),
    ],
)
async def test_what_the_cli_cannot_read_is_said(arbe: Arbe, arguments: tuple[str, ...]) -> None:
    ended = await arbe("thread", *arguments)
    assert (ended.code, ended.out) == (64, "")
