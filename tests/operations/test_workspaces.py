"""A workspace goes when its thread was deleted, on Postgres's word alone."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from dispatch import ids
from dispatch.config import Settings
from dispatch.errors import Unavailable
from dispatch.ids import ThreadId, WorkerId
from dispatch.operations import delete_thread
from dispatch.operations.record import Record, open_record
from tests.system.houses import Casa
from workers.heartbeat import Heartbeats
from workers.sweeps import workspaces

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def a_workspace(root: Path, thread_id: ThreadId) -> Path:
    workspace = root / str(thread_id)
    workspace.mkdir(parents=True)
    (workspace / "file").write_text("work")
    return workspace


async def sweep(record: Record) -> dict[str, int]:
    heartbeats = Heartbeats(
        record.connection, worker_id=WorkerId("test.3.c"), settings=record.settings
    )
    return dict(await workspaces.sweep(record, heartbeats))


async def test_only_what_was_deleted_is_removed(
    casa: Casa, settings: Settings, tmp_path: Path
) -> None:
    deleted = [await casa.dm() for _ in range(3)]
    living, unknown = await casa.dm(), ThreadId(ids.uuid7())
    folders = {each: a_workspace(tmp_path, each) for each in (*deleted, living, unknown)}
    for each in deleted:
        await delete_thread.delete_thread(casa.record, casa.who, each)
    here = settings.model_copy(update={"workspace_root": str(tmp_path), "sweep_batch": 2})
    async with open_record(here) as record:
        assert await sweep(record) == {"released": 3}
        assert await sweep(record) == {}
    assert [each for each in folders if folders[each].exists()] == [living, unknown]


async def test_without_postgres_nothing_is_removed(
    casa: Casa, settings: Settings, tmp_path: Path
) -> None:
    thread_id = await casa.dm()
    workspace = a_workspace(tmp_path, thread_id)
    await delete_thread.delete_thread(casa.record, casa.who, thread_id)
    without = settings.model_copy(
        update={"workspace_root": str(tmp_path), "database_url": SecretStr(NOWHERE)}
    )
    async with open_record(without) as record:
        with pytest.raises(Unavailable):
            await sweep(record)
    assert workspace.exists()
