"""The functions of "Thread Lifecycle Management" as our calls, against a real API and worker.

Each function here has its name there, in our spelling; `docs/lifecycle.md` shows them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from celery import Celery

from dispatch.client import Client, Json
from dispatch.config import Settings
from dispatch.errors import Conflict, Gone
from dispatch.task_names import SWEEP_EXPIRE, SWEEPS_QUEUE
from tests.system.conftest import free_port, new_system
from tests.system.houses import found_casa
from tests.system.processes import Processes

PATIENCE_SECONDS = 90.0
HOURS = 3600.0


@dataclass(frozen=True)
class LifecycleSystem:
    url: str
    settings: Settings


@pytest_asyncio.fixture(scope="module")
async def lifecycle_system(
    postgres_url: str, stream_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LifecycleSystem]:
    settings = new_system(postgres_url, stream_url, name="arbe_lifecycle", first_db=14)
    started = Processes(settings, tmp_path_factory.mktemp("lifecycle"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    started.start("dispatch.api", ARBE_API_PORT=str(port))
    started.start_worker()
    try:
        async with Client(url, "", patience_seconds=PATIENCE_SECONDS) as nobody:
            assert (await nobody.health())["status"] == "ok"
        yield LifecycleSystem(url, settings)
    finally:
        started.end_all()


@pytest_asyncio.fixture
async def client(lifecycle_system: LifecycleSystem) -> AsyncIterator[Client]:
    """A client in a fresh house with the agent `@demo`."""
    async with (
        found_casa(lifecycle_system.settings) as casa,
        Client(lifecycle_system.url, casa.token, patience_seconds=PATIENCE_SECONDS) as made,
    ):
        yield made


# --- Common Patterns -----------------------------------------------------------------------


async def get_or_create_user_thread(client: Client, user_id: str) -> str:
    return (await client.threads.for_user(user_id, parent="@demo"))["id"]


async def create_session_thread(client: Client, user_id: str, session_id: str) -> Json:
    expires_at = datetime.now(UTC) + timedelta(hours=24)
    made = await client.threads.create(
        "@demo",
        metadata={"user_id": user_id, "session_id": session_id},
        expires_at=expires_at,
    )
    return made["thread"]


async def get_topic_thread(client: Client, user_id: str, topic: str) -> str:
    return (await client.threads.get_or_create(f"{user_id}:{topic}", parent="@demo"))["id"]


# --- Active Run Management -----------------------------------------------------------------


async def has_active_run(client: Client, thread_id: str) -> bool:
    return await client.threads.has_active_run(thread_id)


async def create_run_safely(
    client: Client, thread_id: str, text: str, *, cancel_if_active: bool = True
) -> str:
    posted = await client.entries.create(
        thread_id, text, when_busy="interrupt" if cancel_if_active else "reject"
    )
    return posted["dispatches"][0]["id"]


# --- Cleanup Strategies --------------------------------------------------------------------


async def cleanup_old_threads(client: Client, max_age_hours: float = 24) -> Json:
    return await client.threads.cleanup(older_than=max_age_hours * HOURS)


async def archive_if_too_long(client: Client, thread_id: str, max_messages: int = 1000) -> str:
    stats = await client.threads.stats(thread_id)
    if stats["messageCount"] < max_messages:
        return thread_id
    return (await client.threads.archive(thread_id, roll_over=True))["nextThread"]["id"]


async def safe_delete_thread(client: Client, thread_id: str) -> None:
    await client.threads.delete(thread_id)


# --- Error Handling ------------------------------------------------------------------------


async def execute_run(client: Client, thread_id: str, text: str) -> Json:
    posted = await client.entries.create(thread_id, text)
    dispatch_id = posted["dispatches"][0]["id"]

    async def has_ended() -> Json | None:
        found = await client.threads.dispatch(thread_id, dispatch_id)
        return None if found["status"] in {"queued", "running"} else found

    return await until(has_ended)


# --- Monitoring ----------------------------------------------------------------------------


async def get_thread_stats(client: Client, thread_id: str) -> Json:
    return await client.threads.stats(thread_id)


async def until(look: Callable[[], Awaitable[Json | None]]) -> Json:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = await look()
        if found is not None:
            return found
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.1)


async def until_state(client: Client, thread_id: str, state: str) -> Json:
    async def look() -> Json | None:
        found = await get_thread_stats(client, thread_id)
        return found if found["state"] == state else None

    return await until(look)


async def until_running(client: Client, thread_id: str) -> Json:
    async def look() -> Json | None:
        found = await get_thread_stats(client, thread_id)
        return found if found.get("lastRun", {}).get("status") == "running" else None

    return await until(look)


# --- what they promise ---------------------------------------------------------------------


async def test_a_thread_goes_through_its_states_and_is_ready_for_the_next_run(
    client: Client,
) -> None:
    thread_id = await get_or_create_user_thread(client, "17")
    assert (await client.threads.get(thread_id))["state"] == "idle"
    await client.entries.create(thread_id, "sleep: 600")
    await until_state(client, thread_id, "active")
    await client.threads.cancel_all(thread_id)
    await until_state(client, thread_id, "cancelled")
    await client.entries.create(thread_id, "fail: on purpose")
    await until_state(client, thread_id, "failed")
    await client.entries.create(thread_id, "hello")
    await until_state(client, thread_id, "completed")


async def test_a_tool_that_must_be_asked_for_requires_action(client: Client) -> None:
    await client.agents.update("@demo", {"config": {"permissions": {"run_command": "ask"}}})
    thread_id = await get_or_create_user_thread(client, "17")
    await client.entries.create(thread_id, "run: echo hi")
    await until_state(client, thread_id, "requires_action")
    assert not await has_active_run(client, thread_id)
    (question,) = (await client.permissions.list(thread_id))["permissions"]
    await client.permissions.deny(thread_id, question["id"])
    await until_state(client, thread_id, "completed")


async def test_one_thread_per_user_goes_on_with_the_conversation(client: Client) -> None:
    first, again = await asyncio.gather(
        get_or_create_user_thread(client, "17"), get_or_create_user_thread(client, "17")
    )
    assert first == again != await get_or_create_user_thread(client, "18")
    await execute_run(client, first, "hello")
    await execute_run(client, first, "again")
    assert (await get_thread_stats(client, first))["messageCount"] == 4


async def test_a_session_has_a_clear_end(
    client: Client, lifecycle_system: LifecycleSystem
) -> None:
    made = await create_session_thread(client, "17", "s1")
    assert made["metadata"] == {"user_id": "17", "session_id": "s1"}
    assert made["expiresAt"] - made["createdAt"] == pytest.approx(24 * HOURS * 1000, abs=60_000)
    session = await client.threads.for_session("17", "s2", parent="@demo", expires_in=0.5)

    async def is_swept() -> Json | None:
        beat.send_task(SWEEP_EXPIRE, queue=SWEEPS_QUEUE)
        try:
            await client.threads.get(session["id"])
        except Gone:
            return {}
        return None

    with Celery(broker=lifecycle_system.settings.broker) as beat:
        await until(is_swept)
    fresh = await client.threads.for_session("17", "s2", parent="@demo")
    assert fresh["id"] != session["id"]
    assert (await client.threads.get(made["id"]))["id"] == made["id"]


async def test_topics_have_threads_of_their_own(client: Client) -> None:
    billing = await get_topic_thread(client, "17", "billing")
    assert billing == await get_topic_thread(client, "17", "billing")
    assert billing != await get_topic_thread(client, "17", "travel")


async def test_an_active_run_is_seen_until_it_has_ended(client: Client) -> None:
    thread_id = await get_or_create_user_thread(client, "17")
    assert not await has_active_run(client, thread_id)
    await client.entries.create(thread_id, "sleep: 600")
    assert await has_active_run(client, thread_id)
    await until_running(client, thread_id)
    await client.threads.cancel_all(thread_id)
    await until_state(client, thread_id, "cancelled")
    assert not await has_active_run(client, thread_id)


async def test_a_safe_run_cancels_the_active_one_and_then_runs(client: Client) -> None:
    thread_id = await get_or_create_user_thread(client, "17")
    first = (await client.entries.create(thread_id, "sleep: 600"))["dispatches"][0]["id"]
    await until_running(client, thread_id)
    second = await create_run_safely(client, thread_id, "hello")
    done = await until_state(client, thread_id, "completed")
    assert (done["lastRun"]["dispatchId"], done["runCount"]) == (second, 2)
    assert (await client.threads.dispatch(thread_id, first))["status"] == "cancelled"


async def test_a_safe_run_is_refused_while_another_is_active(client: Client) -> None:
    thread_id = await get_or_create_user_thread(client, "17")
    await client.entries.create(thread_id, "sleep: 600")
    await until_running(client, thread_id)
    with pytest.raises(Conflict) as refused:
        await create_run_safely(client, thread_id, "hello", cancel_if_active=False)
    assert refused.value.reason == "busy"
    assert (await get_thread_stats(client, thread_id))["runCount"] == 1
    await client.threads.cancel_all(thread_id)
    await until_state(client, thread_id, "cancelled")
    await create_run_safely(client, thread_id, "hello", cancel_if_active=False)
    await until_state(client, thread_id, "completed")


async def test_old_threads_are_cleaned_up_and_no_active_one(client: Client) -> None:
    old = await get_or_create_user_thread(client, "17")
    await execute_run(client, old, "hello")
    active = await get_or_create_user_thread(client, "18")
    await client.entries.create(active, "sleep: 600")
    await until_running(client, active)
    assert (await cleanup_old_threads(client))["deleted"] == 0
    done = await cleanup_old_threads(client, max_age_hours=0.001 / HOURS)
    assert done["threadIds"] == [old]
    with pytest.raises(Gone):
        await client.threads.get(old)
    assert await has_active_run(client, active)
    await safe_delete_thread(client, active)


async def test_a_safe_deletion_ends_what_runs_and_again_is_harmless(client: Client) -> None:
    thread_id = await get_or_create_user_thread(client, "17")
    await client.entries.create(thread_id, "sleep: 600")
    await client.entries.create(thread_id, "and then this")
    await until(lambda: _first_running(client, thread_id))
    await safe_delete_thread(client, thread_id)
    await safe_delete_thread(client, thread_id)
    with pytest.raises(Gone):
        await client.entries.create(thread_id, "late")
    assert await get_or_create_user_thread(client, "17") != thread_id


async def _first_running(client: Client, thread_id: str) -> Json | None:
    found = (await client.entries.list(thread_id))["entries"]
    types = [each["payload"]["type"] for each in found]
    return {} if "signal.dispatch.started" in types else None


async def test_runs_of_one_thread_never_overlap_however_many_ask(client: Client) -> None:
    thread_id = await get_or_create_user_thread(client, "17")
    done = await asyncio.gather(
        *(execute_run(client, thread_id, f"run {number}") for number in range(5))
    )
    assert {each["status"] for each in done} == {"completed"}
    found = (await client.entries.list(thread_id, limit=200))["entries"]
    steps = [
        each["payload"]["type"].rpartition(".")[2]
        for each in found
        if each["payload"]["type"] in {"signal.dispatch.started", "signal.dispatch.completed"}
    ]
    assert steps == ["started", "completed"] * 5


async def test_statistics_are_those_of_the_document(client: Client) -> None:
    made = await client.threads.create("@demo", metadata={"user_id": "17"})
    thread_id = made["thread"]["id"]
    await execute_run(client, thread_id, "hello")
    found = await get_thread_stats(client, thread_id)
    assert found["threadId"] == thread_id
    assert found["createdAt"] == made["thread"]["createdAt"]
    assert (found["messageCount"], found["runCount"]) == (2, 1)
    assert found["lastRun"]["status"] == "completed"
    assert found["metadata"] == {"user_id": "17"}


async def test_a_thread_that_is_too_long_is_archived_and_goes_on_in_another(
    client: Client,
) -> None:
    thread_id = await get_or_create_user_thread(client, "17")
    await execute_run(client, thread_id, "hello")
    assert await archive_if_too_long(client, thread_id, 3) == thread_id
    before = await client.entries.list(thread_id, limit=200)

    next_id = await archive_if_too_long(client, thread_id, 2)

    assert (await client.threads.get(next_id))["previousThreadId"] == thread_id
    assert await get_or_create_user_thread(client, "17") == next_id
    assert await client.entries.list(thread_id, limit=200) == before
    assert (await get_thread_stats(client, thread_id))["messageCount"] == 2
    with pytest.raises(Conflict, match=next_id):
        await client.entries.create(thread_id, "too late")
