"""A thread's life over HTTP: ends, metadata, states, statistics, cleanup."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from dispatch.errors import Gone
from dispatch.ids import ThreadId
from dispatch.operations import cleanup, post_as_service, post_entry
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine
from dispatch.stores.postgres.tables import threads
from dispatch.streams import threads as streams
from tests.api import turns
from tests.api.homes import Home, problem

HOUR = 3600


async def expire_now(record: Record, home: Home, thread_id: str) -> None:
    """Let a thread's time be over; a door refuses ends that have passed."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    async with engine.as_member(record.members, home.founded.member.id) as connection:
        await connection.execute(
            sa.update(threads).where(threads.c.id == UUID(thread_id)).values(expires_at=past)
        )
    record.forget()


async def patch(home: Home, thread_id: str, **body: object) -> dict:
    answer = await home.http.patch(f"/v1/threads/{thread_id}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stats(home: Home, thread_id: str) -> dict:
    answer = await home.http.get(f"/v1/threads/{thread_id}/stats")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def clean_up(home: Home, **body: object) -> dict:
    answer = await home.http.post("/v1/threads/cleanup", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


# --- metadata and ends ---------------------------------------------------------------------


async def test_metadata_is_merged_and_null_removes_a_key(home: Home):
    made = await home.thread(metadata={"user_id": "7", "plan": {"name": "pro", "seats": 3}})
    assert made["metadata"] == {"user_id": "7", "plan": {"name": "pro", "seats": 3}}
    change = {"plan": {"seats": None, "days": 30}, "topic": "billing", "user_id": None}
    changed = await patch(home, made["id"], metadata=change)
    assert changed["metadata"] == {"plan": {"name": "pro", "days": 30}, "topic": "billing"}
    assert (await patch(home, made["id"], name="n"))["metadata"] == changed["metadata"]
    assert (await patch(home, made["id"], metadata=None))["metadata"] == {}


async def test_patches_of_metadata_at_once_lose_no_key(home: Home):
    made = await home.thread()
    await asyncio.gather(
        *(patch(home, made["id"], metadata={f"k{number}": number}) for number in range(12))
    )
    found = (await home.http.get(f"/v1/threads/{made['id']}")).json()["metadata"]
    assert found == {f"k{number}": number for number in range(12)}


async def test_metadata_beyond_its_limit_is_refused_and_nothing_changes(home: Home):
    made = await home.thread(metadata={"a": 1})
    large = {"metadata": {"b": "x" * 17_000}}
    problem(await home.http.patch(f"/v1/threads/{made['id']}", json=large), 413, "too_large")
    problem(await home.http.post("/v1/threads", json=large), 413, "too_large")
    deep: dict = {}
    for _ in range(40):
        deep = {"a": deep}
    body = {"metadata": deep}
    problem(await home.http.patch(f"/v1/threads/{made['id']}", json=body), 422, "invalid")
    found = (await home.http.get(f"/v1/threads/{made['id']}")).json()
    assert found["metadata"] == {"a": 1}


async def test_an_end_is_set_as_a_moment_or_in_seconds_and_taken_away(home: Home):
    made = await home.thread(expiresIn=HOUR)
    assert abs(made["expiresAt"] - now_ms() - HOUR * 1000) < 60_000
    at = now_ms() + 2 * HOUR * 1000
    assert (await patch(home, made["id"], expiresAt=at))["expiresAt"] == at
    text = datetime.fromtimestamp(at / 1000 + 1, tz=UTC).isoformat()
    assert (await patch(home, made["id"], expiresAt=text))["expiresAt"] == at + 1000
    assert "expiresAt" not in await patch(home, made["id"], expiresAt=None)


@pytest.mark.parametrize(
    "body",
    [
        {"expiresIn": 0},
        {"expiresIn": -1},
        {"expiresIn": 1e12},
        {"expiresAt": 1},
        {"expiresAt": 10**30},
        {"expiresAt": "tomorrow"},
        {"expiresAt": "2100-01-01T00:00:00"},
        {"expiresAt": True},
        {"expiresIn": 60, "expiresAt": "2027-01-01T00:00:00Z"},
    ],
)
async def test_an_end_that_is_none_is_refused(home: Home, body: dict):
    made = await home.thread()
    problem(await home.http.patch(f"/v1/threads/{made['id']}", json=body), 422, "invalid")
    problem(await home.http.post("/v1/threads", json=body), 422, "invalid")


async def test_the_primary_thread_has_no_end(home: Home):
    primary = home.founded.house.primary_thread_id
    body = {"expiresIn": 60}
    problem(await home.http.patch(f"/v1/threads/{primary}", json=body), 409, "conflict")


async def test_an_expired_thread_takes_no_entry_until_its_end_is_put_off(
    home: Home, record: Record
):
    made = await home.thread(expiresIn=HOUR)
    assert (await home.post(made["id"], "in time")).status_code == 201
    await expire_now(record, home, made["id"])
    found = problem(await home.post(made["id"], "late"), 410, "gone")
    assert "has expired" in found["detail"]
    assert (await home.http.get(f"/v1/threads/{made['id']}")).status_code == 200
    await patch(home, made["id"], expiresIn=HOUR)
    assert (await home.post(made["id"], "saved")).status_code == 201


async def test_a_key_is_not_bound_to_an_expired_thread(home: Home, record: Record):
    session = {"key": "user:7:session:1", "expiresIn": HOUR}
    first = await home.thread(**session)
    again = await home.http.post("/v1/threads", json=session)
    assert (again.status_code, again.json()["thread"]["id"]) == (200, first["id"])
    await expire_now(record, home, first["id"])
    answers = await asyncio.gather(
        *(home.http.post("/v1/threads", json=session) for _ in range(8))
    )
    (fresh,) = {answer.json()["thread"]["id"] for answer in answers}
    assert fresh != first["id"]
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    found = (await home.http.get("/v1/threads?keyPrefix=user:7:")).json()["threads"]
    assert [each["id"] for each in found] == [fresh]


# --- states and statistics -----------------------------------------------------------------


async def test_statistics_follow_a_run_from_its_birth_to_its_end(home: Home, record: Record):
    await home.agent()
    made = await home.thread(metadata={"user_id": "7"})
    empty = await stats(home, made["id"])
    assert (empty["state"], empty["messageCount"], empty["runCount"]) == ("idle", 0, 0)
    assert "lastRun" not in empty
    assert empty["metadata"] == {"user_id": "7"}
    posted = (await home.post(made["id"], "@demo hi")).json()
    queued = await stats(home, made["id"])
    assert (queued["state"], queued["hasActiveRun"]) == ("active", True)
    assert queued["lastRun"]["status"] == "queued"
    turn = await turns.begin(record, posted)
    running = await stats(home, made["id"])
    assert (running["state"], running["lastRun"]["status"]) == ("active", "running")
    await turn.say("hello")
    await turn.end()
    done = await stats(home, made["id"])
    last = done["lastRun"]
    assert (done["state"], done["hasActiveRun"]) == ("completed", False)
    assert (done["messageCount"], done["runCount"]) == (2, 1)
    assert (last["dispatchId"], last["status"]) == (posted["dispatches"][0]["id"], "completed")
    assert last["queuedAt"] <= last["startedAt"] <= last["endedAt"]
    assert done["createdAt"] == made["createdAt"]
    assert done["usage"]["totalTokens"] == 0
    shown = (await home.http.get(f"/v1/threads/{made['id']}")).json()
    assert (shown["status"], shown["state"]) == ("open", "completed")


async def test_a_question_makes_a_thread_require_action_and_a_cancel_ends_it(
    home: Home, record: Record
):
    await home.agent()
    made = await home.thread()
    posted = (await home.post(made["id"], "@demo hi")).json()
    turn = await turns.begin(record, posted)
    await turn.ask()
    asked = await stats(home, made["id"])
    assert (asked["state"], asked["hasActiveRun"]) == ("requires_action", False)
    assert asked["lastRun"]["status"] == "waiting"
    await turn.wait()
    assert (await stats(home, made["id"]))["state"] == "requires_action"
    dispatch_id = posted["dispatches"][0]["id"]
    await home.http.post(f"/v1/threads/{made['id']}/dispatches/{dispatch_id}/cancel")
    ended = await stats(home, made["id"])
    assert (ended["state"], ended["lastRun"]["status"]) == ("cancelled", "cancelled")


async def test_a_running_turn_that_was_asked_to_end_is_cancelling(home: Home, record: Record):
    await home.agent()
    made = await home.thread()
    posted = (await home.post(made["id"], "@demo hi")).json()
    turn = await turns.begin(record, posted)
    await home.http.post(f"/v1/threads/{made['id']}/cancel")
    found = await stats(home, made["id"])
    assert (found["state"], found["hasActiveRun"]) == ("active", True)
    assert found["lastRun"]["status"] == "cancelling"
    await turn.end(failed="broken")


async def test_a_sub_job_has_the_same_words(home: Home, record: Record):
    await home.agent()
    parent = await home.thread()
    child = await home.thread(parent=parent["id"])
    assert (await stats(home, child["id"]))["state"] == "idle"
    turn = await turns.begin(record, (await home.post(child["id"], "@demo hi")).json())
    await turn.end(failed="broken")
    found = await stats(home, child["id"])
    assert (found["state"], found["lastRun"]["status"]) == ("failed", "failed")
    assert found["lastRun"]["reason"] == "agent_error"


# --- cleanup -------------------------------------------------------------------------------


async def test_a_cleanup_deletes_what_is_old_and_nothing_else(home: Home, record: Record):
    # Each thread is a few milliseconds old when a cleanup asks for more than one.
    await home.agent()
    old = [await home.thread(name=f"old {number}") for number in range(3)]
    child = await home.thread(parent=old[0]["id"])
    pinned = await home.thread()
    await patch(home, pinned["id"], pinned=True)
    busy = await home.thread()
    await home.post(busy["id"], "@demo hi")
    mother = await home.thread()
    working = await home.thread(parent=mother["id"])
    await home.post(working["id"], "@demo hi")
    await asyncio.sleep(0.02)
    assert (await clean_up(home, olderThan=HOUR))["deleted"] == 0
    seen = await clean_up(home, olderThan=0.001, dryRun=True)
    assert seen["deleted"] == 0
    assert set(seen["threadIds"]) == {each["id"] for each in (*old, child)}
    done = await clean_up(home, olderThan=0.001)
    # the child goes with its parent, before its own turn comes
    assert done["deleted"] >= 3
    assert done["running"] == 3
    left = {each["id"] for each in (await home.http.get("/v1/threads")).json()["threads"]}
    primary = str(home.founded.house.primary_thread_id)
    assert left == {primary, pinned["id"], busy["id"], mother["id"], working["id"]}
    for gone in (*old, child):
        problem(await home.http.get(f"/v1/threads/{gone['id']}"), 410, "gone")
        keys = await record.connection.call("KEYS", f"*{gone['id']}*")
        assert keys == [f"{{arbe-thread-{gone['id']}}}:state".encode()]


async def test_a_cleanup_goes_on_by_cursor_and_a_repeat_finds_nothing(home: Home):
    made = [await home.thread(tags=["nightly"]) for _ in range(5)]
    await home.thread()
    await asyncio.sleep(0.02)
    removed: list[str] = []
    cursor = None
    while True:
        done = await clean_up(home, olderThan=0.001, tag="nightly", limit=2, cursor=cursor)
        removed += done["threadIds"]
        cursor = done.get("nextCursor")
        if cursor is None:
            break
    assert removed == [each["id"] for each in made]
    again = await clean_up(home, olderThan=0.001, tag="nightly")
    assert (again["deleted"], again["threadIds"]) == (0, [])


async def test_running_and_pinned_threads_go_only_when_it_is_said(home: Home):
    await home.agent()
    busy = await home.thread(tags=["x"])
    await home.post(busy["id"], "@demo hi")
    pinned = await home.thread(tags=["x"])
    await patch(home, pinned["id"], pinned=True)
    await asyncio.sleep(0.02)
    assert (await clean_up(home, olderThan=0.001, tag="x"))["deleted"] == 0
    done = await clean_up(home, olderThan=0.001, tag="x", running=True)
    assert done["threadIds"] == [busy["id"]]
    done = await clean_up(home, olderThan=0.001, tag="x", pinned=True)
    assert done["threadIds"] == [pinned["id"]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"olderThan": 0},
        {"olderThan": -5},
        {"olderThan": 1e300},
        {"olderThan": 5, "status": "running"},
    ],
)
async def test_a_cleanup_without_a_sane_age_is_refused(home: Home, body: dict):
    problem(await home.http.post("/v1/threads/cleanup", json=body), 422, "invalid")


async def test_a_muted_word_counts_as_activity_though_the_row_lags(home: Home):
    made = await home.thread(tags=["x"])
    await asyncio.sleep(1.2)
    await home.post(made["id"], "a note to nobody")
    done = await clean_up(home, olderThan=1, tag="x")
    assert (done["deleted"], done["recent"]) == (0, 1)


async def test_an_entry_accepted_after_the_look_saves_the_thread(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    made = await home.thread(tags=["x"], expiresIn=HOUR)
    await asyncio.sleep(0.02)
    real = cleanup.old_threads.end

    async def end_late(connection, **rest):
        assert (await home.post(made["id"], "wait!")).status_code == 201
        return await real(connection, **rest)

    monkeypatch.setattr(cleanup.old_threads, "end", end_late)
    done = await clean_up(home, olderThan=0.001, tag="x")
    assert (done["deleted"], done["changed"]) == (0, 1)
    assert (await home.payloads(made["id"]))[-1]["text"] == "wait!"
    found = (await home.http.get(f"/v1/threads/{made['id']}")).json()
    assert found["expiresAt"] == made["expiresAt"]
    assert (await home.post(made["id"], "still here")).status_code == 201


async def test_an_entry_that_comes_while_its_thread_is_removed_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    made = await home.thread(tags=["x"])
    await asyncio.sleep(0.02)
    real = cleanup.old_threads.delete

    async def delete_late(connection, **rest):
        problem(await home.post(made["id"], "too late"), 410, "gone")
        return await real(connection, **rest)

    monkeypatch.setattr(cleanup.old_threads, "delete", delete_late)
    assert (await clean_up(home, olderThan=0.001, tag="x"))["deleted"] == 1


async def test_a_cleanup_that_died_after_the_stream_went_is_finished_by_a_repeat(
    home: Home, record: Record
):
    made = await home.thread(tags=["x"])
    await asyncio.sleep(0.02)
    await streams.delete(record.scripts, ThreadId(UUID(made["id"])), tombstone_seconds=60)
    assert (await clean_up(home, olderThan=0.001, tag="x"))["threadIds"] == [made["id"]]
    assert (await home.http.get("/v1/threads")).json()["threads"][0]["id"] != made["id"]


# --- the expiry sweep ----------------------------------------------------------------------


async def test_the_sweep_removes_what_has_expired_and_rests(home: Home, record: Record):
    await cleanup.expire(record, max_batches=5)
    await home.agent()
    over = await home.thread(metadata={"session": 1})
    await home.post(over["id"], "hello")
    await patch(home, over["id"], pinned=True)
    child = await home.thread(parent=over["id"])
    to_come = await home.thread(expiresIn=HOUR)
    busy = await home.thread()
    posted = (await home.post(busy["id"], "@demo hi")).json()
    for each in (over, busy):
        await expire_now(record, home, each["id"])
    seen = await cleanup.expire(record, dry_run=True, max_batches=5)
    assert seen["removable"] == 1
    first, second = await asyncio.gather(
        cleanup.expire(record, max_batches=5), cleanup.expire(record, max_batches=5)
    )
    assert first["deleted"] + second["deleted"] == 1
    for gone in (over, child):
        problem(await home.http.get(f"/v1/threads/{gone['id']}"), 410, "gone")
        assert await record.connection.call("EXISTS", f"arbe-thread-{gone['id']}") == 0
    for kept in (to_come, busy):
        assert (await home.http.get(f"/v1/threads/{kept['id']}")).status_code == 200
    await (await turns.begin(record, posted)).end()
    assert (await cleanup.expire(record, max_batches=5))["deleted"] == 1
    problem(await home.http.get(f"/v1/threads/{busy['id']}"), 410, "gone")
    assert (await cleanup.expire(record, max_batches=5))["deleted"] == 0


async def test_an_end_put_off_before_the_removal_saves_the_thread(
    home: Home, record: Record, monkeypatch: pytest.MonkeyPatch
):
    made = await home.thread()
    await expire_now(record, home, made["id"])
    real = cleanup.old_threads.delete

    async def delete_late(connection, **rest):
        if str(rest["thread_id"]) == made["id"]:
            await patch(home, made["id"], expiresIn=HOUR)
        return await real(connection, **rest)

    monkeypatch.setattr(cleanup.old_threads, "delete", delete_late)
    assert (await cleanup.expire(record, max_batches=5))["changed"] == 1
    monkeypatch.undo()
    assert (await home.post(made["id"], "still here")).status_code == 201


async def test_a_producer_of_the_broker_cannot_post_to_an_expired_thread(
    home: Home, record: Record
):
    made = await home.thread()
    await expire_now(record, home, made["id"])
    message = post_as_service.ServiceEntry(
        thread_id=ThreadId(UUID(made["id"])),
        draft=post_entry.Draft("hi"),
        key="k",
        service="crm",
    )
    with pytest.raises(Gone, match="has expired"):
        await post_as_service.post_as_service(record, message)
    await cleanup.expire(record, max_batches=5)


async def test_a_config_is_replaced_whole_if_it_makes_sense(home: Home):
    made = await home.thread(config={"maxAgentHops": 1})
    policy = {"archive": {"afterEntries": 500, "keepEntries": 10}}
    assert (await patch(home, made["id"], config=policy))["config"] == policy
    wrong = {"config": {"archive": {"afterEntries": -1}}}
    refused = await home.http.patch(f"/v1/threads/{made['id']}", json=wrong)
    assert "config.archive" in problem(refused, 422, "invalid")["detail"]
