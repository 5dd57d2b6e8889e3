"""What becomes of a sandbox's row."""

from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch.models.threads import NewThread
from dispatch.stores.postgres import engine, sandboxes, threads
from tests.stores.factories import Home


async def status(home: Home) -> str:
    async with home.as_member() as conn:
        return (await sandboxes.get(conn, sandbox_id=home.sandbox.id)).status


async def test_a_deleted_thread_releases_its_sandbox_when_no_other_uses_it(
    home: Home, worker: AsyncEngine
) -> None:
    async with home.as_member() as conn:
        others = [
            await threads.insert(conn, new=NewThread(house_id=home.house.id, name=name))
            for name in ("one", "two", "three")
        ]
    async with engine.as_worker(worker) as conn:
        await sandboxes.update(conn, sandbox_id=home.sandbox.id, status="ready")
        for thread in others[:2]:
            await threads.set_sandbox(conn, thread_id=thread.id, sandbox_id=home.sandbox.id)
    for thread, expected in zip(reversed(others), ("ready", "ready", "released"), strict=True):
        async with home.as_member() as conn:
            await threads.delete_tree(conn, thread_id=thread.id)
        assert await status(home) == expected


async def test_a_deleted_tree_releases_what_its_children_used(
    home: Home, worker: AsyncEngine
) -> None:
    async with home.as_member() as conn:
        root = await threads.insert(conn, new=NewThread(house_id=home.house.id, name="root"))
        child = await threads.insert(
            conn, new=NewThread(house_id=home.house.id, parent_thread_id=root.id)
        )
    async with engine.as_worker(worker) as conn:
        for thread in (root, child):
            await threads.set_sandbox(conn, thread_id=thread.id, sandbox_id=home.sandbox.id)
    async with home.as_member() as conn:
        await threads.delete_tree(conn, thread_id=root.id)
    assert await status(home) == "released"
