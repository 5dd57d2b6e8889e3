"""Rows of threads: keys, direct threads, projection, deletes, pages."""

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch import ids
from dispatch.config import Settings
from dispatch.errors import Conflict, Gone, Invalid, NotFound
from dispatch.ids import ThreadId
from dispatch.models.threads import (
    NewThread,
    Parent,
    Thread,
    ThreadFilter,
)
from dispatch.payloads.usage import UsageTotals
from dispatch.stores.postgres import agents, deletions, engine, houses, sandboxes, threads
from tests.stores.factories import Home


async def add(home: Home, **fields: object) -> Thread:
    async with home.as_member() as conn:
        return await threads.insert(conn, new=NewThread(house_id=home.house.id, **fields))


async def test_a_new_thread_rests_in_the_vocabulary_of_its_place(home: Home) -> None:
    root = await add(
        home, tags=["a", "b"], config={"model": "m"}, environment_id=home.environment.id
    )
    child = await add(home, parent_thread_id=root.id)
    assert (root.status, root.parent.kind, root.tags) == ("open", "house", ["a", "b"])
    assert (root.config, root.usage, root.stream_id) == ({"model": "m"}, UsageTotals(), "")
    assert (child.status, child.parent) == ("idle", Parent("thread", str(root.id)))
    async with home.as_owner() as conn:
        assert await threads.get(conn, thread_id=root.id) == root


async def test_a_thread_has_one_parent_at_most(home: Home) -> None:
    with pytest.raises(Invalid):
        await add(home, parent_thread_id=home.thread.id, parent_agent_id=home.agent.id)


async def test_a_child_cannot_sit_in_another_house(home: Home, elsewhere: Home) -> None:
    for foreign in (
        {"parent_thread_id": elsewhere.thread.id},
        {"parent_agent_id": elsewhere.agent.id},
        {"environment_id": elsewhere.environment.id},
        {"parent_thread_id": ids.uuid7()},
    ):
        with pytest.raises(NotFound):
            await add(home, **foreign)


async def test_twenty_calls_with_one_key_make_one_thread(home: Home) -> None:
    async def call() -> tuple[ThreadId, bool]:
        async with home.as_member() as conn:
            new = NewThread(house_id=home.house.id, key="session-7")
            keyed = await threads.insert_keyed(conn, new=new)
            return keyed.thread.id, keyed.created

    answers = await asyncio.gather(*(call() for _ in range(20)))
    assert len({thread_id for thread_id, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1


async def test_a_key_is_taken_once_per_house_and_free_after_the_delete(
    home: Home, elsewhere: Home
) -> None:
    first = await add(home, key="k")
    await add(elsewhere, key="k")
    with pytest.raises(Conflict, match="key"):
        await add(home, key="k")
    async with home.as_member() as conn:
        await threads.delete_tree(conn, thread_id=first.id)
    assert (await add(home, key="k")).id != first.id


async def test_twenty_calls_for_a_direct_thread_share_one(home: Home) -> None:
    async def call() -> tuple[ThreadId, bool]:
        async with home.as_member() as conn:
            found = await threads.insert_dm(
                conn, house_id=home.house.id, agent_id=home.agent.id
            )
            return found.thread.id, found.created

    answers = await asyncio.gather(*(call() for _ in range(20)))
    assert len({thread_id for thread_id, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1


async def test_the_oldest_direct_thread_is_reused(home: Home) -> None:
    first = await add(home, parent_agent_id=home.agent.id)
    await add(home, parent_agent_id=home.agent.id)
    async with home.as_member() as conn:
        dm = await threads.insert_dm(conn, house_id=home.house.id, agent_id=home.agent.id)
    assert (dm.thread.id, dm.created) == (first.id, False)


async def test_a_direct_thread_with_a_foreign_agent_is_refused(
    home: Home, elsewhere: Home
) -> None:
    with pytest.raises(NotFound):
        async with home.as_member() as conn:
            await threads.insert_dm(conn, house_id=home.house.id, agent_id=elsewhere.agent.id)


async def test_access_tells_each_agents_mode_queue_and_attempts(home: Home) -> None:
    async with home.as_member() as conn:
        assert await agents.queues(conn, [home.agent.id, ids.uuid7()]) == {
            home.agent.id: "arbe.turns"
        }
        loud = await agents.insert(
            conn,
            house_id=home.house.id,
            handle="loud",
            runner="demo",
            trigger_mode="never",
            config={"queue": "gpu", "maxAttempts": 1},
        )
        dm = await threads.insert_dm(conn, house_id=home.house.id, agent_id=loud.id)
        seen = await threads.access(conn, thread_id=dm.thread.id, defaults=Settings())
        plain = await threads.access(conn, thread_id=home.thread.id, defaults=Settings())
    assert [
        (each.handle, each.trigger_mode, each.queue, each.policy.max_attempts)
        for each in seen.listeners
    ] == [
        ("demo", "mention", "arbe.turns", 3),
        ("loud", "always", "gpu", 1),
    ]
    assert [each.trigger_mode for each in plain.listeners] == ["mention", "never"]
    assert (seen.house_id, seen.is_sub_job, seen.stream_id) == (home.house.id, False, "")


async def test_access_to_a_house_without_agents_has_no_listeners(home: Home) -> None:
    async with home.as_member() as conn:
        await agents.delete(conn, agent_id=home.agent.id)
        seen = await threads.access(conn, thread_id=home.thread.id, defaults=Settings())
    assert seen.listeners == ()


async def test_access_tells_the_threads_busy_policy_else_the_houses(home: Home) -> None:
    async def policy() -> str:
        async with home.as_member() as conn:
            seen = await threads.access(conn, thread_id=home.thread.id, defaults=Settings())
            return seen.when_busy

    assert await policy() == "enqueue"
    async with home.as_owner() as conn:
        await houses.update(conn, house_id=home.house.id, when_busy="reject")
    assert await policy() == "reject"
    async with home.as_member() as conn:
        row = await threads.update(conn, thread_id=home.thread.id, when_busy="steer")
        assert row.when_busy == "steer"
    assert await policy() == "steer"
    async with home.as_member() as conn:
        await threads.update(conn, thread_id=home.thread.id, when_busy=None)
    assert await policy() == "reject"
    assert (await add(home, when_busy="write")).when_busy == "write"
    with pytest.raises(Invalid):
        await add(home, when_busy="panic")


async def test_an_override_can_be_changed_and_taken_back(home: Home) -> None:
    async def mode() -> str:
        async with home.as_member() as conn:
            seen = await threads.access(conn, thread_id=home.thread.id, defaults=Settings())
            return seen.listeners[0].trigger_mode

    async with home.as_member() as conn:
        for wanted in ("always", "never"):
            await agents.set_override(
                conn,
                house_id=home.house.id,
                thread_id=home.thread.id,
                agent_id=home.agent.id,
                trigger_mode=wanted,
            )
    assert await mode() == "never"
    async with home.as_member() as conn:
        await agents.delete_override(conn, thread_id=home.thread.id, agent_id=home.agent.id)
    assert await mode() == "mention"


async def test_another_houses_thread_is_not_found_at_any_door(
    home: Home, elsewhere: Home
) -> None:
    foreign = elsewhere.thread.id
    async with home.as_owner() as conn:
        assert await threads.find(conn, thread_id=foreign) is None
        with pytest.raises(NotFound):
            await threads.get(conn, thread_id=foreign)
        with pytest.raises(NotFound):
            await threads.access(conn, thread_id=foreign, defaults=Settings())
        with pytest.raises(NotFound):
            await threads.update(conn, thread_id=foreign, name="mine")
        with pytest.raises(NotFound):
            await threads.delete_tree(conn, thread_id=foreign)


async def test_an_update_changes_what_is_given_and_nothing_else(home: Home) -> None:
    pinned = datetime(2026, 1, 2, tzinfo=UTC)
    async with home.as_member() as conn:
        first = await threads.update(
            conn, thread_id=home.thread.id, pinned_at=pinned, tags=["x"]
        )
        assert (first.name, first.pinned_at, first.tags) == ("talk", pinned, ["x"])
        second = await threads.update(conn, thread_id=home.thread.id, name=None)
        assert (second.name, second.pinned_at, second.tags) == (None, pinned, ["x"])
        third = await threads.update(conn, thread_id=home.thread.id)
        assert third == second


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "x" * 201},
        {"name": ""},
        {"name": "a\x00b"},
        {"name": "\ud800"},
        {"tags": ["x"] * 33},
        {"tags": ["x" * 65]},
        {"tags": [""]},
    ],
)
async def test_a_broken_limit_is_invalid_and_changes_nothing(
    home: Home, bad: dict[str, object]
) -> None:
    with pytest.raises(Invalid):
        async with home.as_member() as conn:
            await threads.update(conn, thread_id=home.thread.id, **bad)
    async with home.as_member() as conn:
        assert await threads.get(conn, thread_id=home.thread.id) == home.thread


async def test_a_nul_inside_a_config_is_invalid(home: Home) -> None:
    for text in ("a\x00b", "\ud800"):
        with pytest.raises(Invalid):
            await add(home, config={"title": text})


async def test_a_delete_takes_the_tree_and_notes_every_stream(
    home: Home, worker: AsyncEngine
) -> None:
    child = await add(home, parent_thread_id=home.thread.id)
    grandchild = await add(home, parent_thread_id=child.id)
    tree = {home.thread.id, child.id, grandchild.id}
    async with home.as_member() as conn:
        assert set(await threads.delete_tree(conn, thread_id=home.thread.id)) == tree
        assert all([await deletions.find(conn, thread_id=each) for each in tree])
        with pytest.raises(Gone):
            await threads.get(conn, thread_id=child.id)
    async with engine.as_worker(worker) as conn:
        waiting = {each.thread_id for each in await deletions.list_open(conn, limit=1000)}
        assert tree <= waiting


async def test_a_repeated_delete_converges(home: Home, worker: AsyncEngine) -> None:
    thread_id = home.thread.id
    async with home.as_member() as conn:
        assert await threads.delete_tree(conn, thread_id=thread_id) == (thread_id,)
    async with home.as_member() as conn:
        assert await threads.delete_tree(conn, thread_id=thread_id) == (thread_id,)
    async with engine.as_worker(worker) as conn:
        assert await deletions.mark_done(conn, thread_id=thread_id)
        assert not await deletions.mark_done(conn, thread_id=thread_id)
    async with home.as_member() as conn:
        assert await threads.delete_tree(conn, thread_id=thread_id) == ()


async def test_concurrent_deletes_of_one_tree_agree(home: Home) -> None:
    child = await add(home, parent_thread_id=home.thread.id)

    async def delete() -> set[ThreadId]:
        async with home.as_member() as conn:
            return set(await threads.delete_tree(conn, thread_id=home.thread.id))

    answers = await asyncio.gather(*(delete() for _ in range(6)))
    assert set.union(*answers) == {home.thread.id, child.id}


async def test_a_delete_rolled_back_notes_nothing(home: Home) -> None:
    async with home.as_member() as conn:
        await threads.delete_tree(conn, thread_id=home.thread.id)
        await conn.rollback()
    async with home.as_member() as conn:
        assert await deletions.find(conn, thread_id=home.thread.id) is None
        assert await threads.find(conn, thread_id=home.thread.id) is not None


async def test_the_primary_thread_cannot_be_deleted(home: Home) -> None:
    primary = home.house.primary_thread_id
    with pytest.raises(Conflict) as refused:
        async with home.as_owner() as conn:
            await threads.delete_tree(conn, thread_id=primary)
    assert refused.value.reason == "primary_thread"
    async with home.as_owner() as conn:
        assert (await threads.get(conn, thread_id=primary)).name == "home"
        assert await houses.get(conn, house_id=home.house.id) == home.house


async def test_a_finished_deletion_is_forgotten_after_its_time(
    home: Home, worker: AsyncEngine
) -> None:
    other = await add(home)
    async with home.as_member() as conn:
        await threads.delete_tree(conn, thread_id=home.thread.id)
        await threads.delete_tree(conn, thread_id=other.id)
    async with engine.as_worker(worker) as conn:
        await deletions.mark_done(conn, thread_id=other.id)
    async with engine.as_worker(worker) as conn:
        assert await deletions.delete_done(conn, older_than_seconds=3600, limit=100) == 0
        assert await deletions.delete_done(conn, older_than_seconds=0, limit=100) >= 1
    async with home.as_member() as conn:
        assert await deletions.find(conn, thread_id=other.id) is None
        assert await deletions.find(conn, thread_id=home.thread.id) is not None


async def test_pages_show_every_thread_once_while_others_come_and_go(home: Home) -> None:
    stay = [await add(home) for _ in range(7)]
    goes = await add(home)
    seen: list[ThreadId] = []
    before = None
    while True:
        async with home.as_member() as conn:
            page = await threads.list(conn, house_id=home.house.id, before=before, limit=3)
        if not page:
            break
        seen.extend(each.id for each in page)
        before = page[-1].id
        await add(home)
        if before is not None and goes.id:
            async with home.as_member() as conn:
                await threads.delete_tree(conn, thread_id=goes.id)
    assert len(seen) == len(set(seen))
    assert {each.id for each in stay} <= set(seen)
    assert seen == sorted(seen, reverse=True)


async def test_a_list_shows_what_the_filter_asks_for(home: Home, elsewhere: Home) -> None:
    await add(elsewhere, tags=["t"], name="50% off")
    tagged = await add(home, tags=["t", "u"], name="50% Off")
    pinned = await add(home, pinned_at=datetime(2026, 1, 1, tzinfo=UTC))
    child = await add(home, parent_thread_id=tagged.id)
    dm = await add(home, parent_agent_id=home.agent.id)
    roots = {home.thread.id, home.house.primary_thread_id, tagged.id, pinned.id}

    async def shown(**where: object) -> set[ThreadId]:
        async with home.as_member() as conn:
            page = await threads.list(
                conn, house_id=home.house.id, where=ThreadFilter(**where), limit=50
            )
            return {each.id for each in page}

    assert await shown(tag="t") == {tagged.id}
    assert await shown(pinned=True) == {pinned.id}
    assert await shown(pinned=False) == {*roots, child.id, dm.id} - {pinned.id}
    assert await shown(status="idle") == {child.id}
    assert await shown(name="0% off") == {tagged.id}
    assert await shown(name="_") == set()
    assert await shown(parent=Parent("thread", str(tagged.id))) == {child.id}
    assert await shown(parent=Parent("agent", str(home.agent.id))) == {dm.id}
    assert await shown(parent=Parent("house", str(home.house.id))) == roots
    assert await shown(tag="t", pinned=True) == set()


async def test_a_sandbox_is_pointed_at_and_let_go(
    home: Home, elsewhere: Home, worker: AsyncEngine
) -> None:
    async with engine.as_worker(worker) as conn:
        assert await threads.set_sandbox(
            conn, thread_id=home.thread.id, sandbox_id=home.sandbox.id
        )
        ready = await sandboxes.update(conn, sandbox_id=home.sandbox.id, status="ready")
    async with home.as_member() as conn:
        row = await threads.get(conn, thread_id=home.thread.id)
        assert row.sandbox_id == home.sandbox.id
        assert await sandboxes.get(conn, sandbox_id=home.sandbox.id) == ready
    with pytest.raises(NotFound):
        async with engine.as_worker(worker) as conn:
            await threads.set_sandbox(
                conn, thread_id=home.thread.id, sandbox_id=elsewhere.sandbox.id
            )


async def test_a_row_is_changed_or_deleted_only_while_it_has_the_status(home: Home) -> None:
    top = await add(home)
    await add(home, parent_thread_id=top.id)
    async with home.as_member() as conn:
        with pytest.raises(Conflict) as refused:
            await threads.update(conn, thread_id=top.id, name="n", if_status=["failed"])
        assert refused.value.fields["threadStatus"] == "open"
        with pytest.raises(Conflict):
            await threads.delete_tree(conn, thread_id=top.id, if_status=["failed"])
        named = await threads.update(conn, thread_id=top.id, name="n", if_status=["open"])
        assert named.name == "n"
        gone = await threads.delete_tree(conn, thread_id=top.id, if_status=["open"])
        assert len(gone) == 2
        with pytest.raises(Gone):
            await threads.update(conn, thread_id=top.id, name="n", if_status=["open"])
        # A repeat whose stream is not known to be gone yet.
        assert await threads.delete_tree(conn, thread_id=top.id, if_status=["open"]) == (
            top.id,
        )
