"""The sandbox of a thread: made when it is needed, kept while it lives, replaced when not."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from dispatch import ids
from dispatch.config import Settings
from dispatch.errors import Invalid, NotFound, SandboxDied, Unavailable
from dispatch.ids import SandboxId, ThreadId, WorkerId
from dispatch.models.houses import Environment, Sandbox
from dispatch.models.threads import NewThread, Thread
from dispatch.operations import delete_thread, environments, outputs
from dispatch.operations.record import Record, open_record
from dispatch.stores.postgres import engine, sandboxes, tables, threads
from tests.sandboxes.commands import Shown
from tests.system.houses import Casa
from workers.heartbeat import Heartbeats
from workers.sandboxes import isolation
from workers.sandboxes.threads import ThreadSandbox
from workers.sweeps import sandboxes as idle
from workers.sweeps import workspaces


@pytest_asyncio.fixture
async def record(settings: Settings, tmp_path: Path) -> AsyncIterator[Record]:
    here = settings.model_copy(
        update={
            "workspace_root": str(tmp_path / "workspaces"),
            "max_output_bytes": 1000,
            "max_kept_output_bytes": 3 * outputs.PART_BYTES,
            "sandbox_idle_seconds": 60.0,
        }
    )
    try:
        await asyncio.to_thread(isolation.choose, here)
    except Unavailable as problem:
        pytest.skip(str(problem))
    async with open_record(here) as made:
        yield made


async def an_environment(casa: Casa, **config: Any) -> Environment:
    return await environments.create(casa.record, casa.who, name="e", config=config)


async def a_thread(casa: Casa, environment: Environment | None = None) -> Thread:
    new = NewThread(
        house_id=casa.who.house_id, environment_id=environment.id if environment else None
    )
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        return await threads.insert(connection, new=new)


async def run(record: Record, thread: Thread, command: str) -> str:
    result = await ThreadSandbox(record, thread.id).run_command(command, Shown())
    return result.output


async def the_row(casa: Casa, thread: Thread) -> Sandbox:
    sandbox_id = (await casa.row(thread.id)).sandbox_id
    assert sandbox_id is not None
    return await row(casa, sandbox_id)


async def row(casa: Casa, sandbox_id: SandboxId) -> Sandbox:
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        return await sandboxes.get(connection, sandbox_id=sandbox_id)


async def age(record: Record, sandbox_id: SandboxId) -> None:
    """An hour passes for the sandbox."""
    hour = sa.func.make_interval(0, 0, 0, 0, 1)
    async with engine.as_worker(record.projector) as connection:
        await connection.execute(
            sa.update(tables.sandboxes)
            .where(tables.sandboxes.c.id == sandbox_id)
            .values(used_until=sa.func.now() - hour)
        )


async def sweep_disk(record: Record) -> dict[str, int]:
    heartbeats = Heartbeats(
        record.connection, worker_id=WorkerId("test.4.c"), settings=record.settings
    )
    return dict(await workspaces.sweep(record, heartbeats))


async def test_a_thread_without_environment_has_its_own_workspace_and_no_row(
    casa: Casa, record: Record
) -> None:
    thread = await a_thread(casa)
    await run(record, thread, "echo kept > note")
    assert await run(record, thread, "cat note") == "kept\n"
    assert (await casa.row(thread.id)).sandbox_id is None
    assert (Path(record.settings.workspace_root) / str(thread.id) / "note").exists()


async def test_the_first_command_makes_the_sandbox_and_later_turns_find_it(
    casa: Casa, record: Record
) -> None:
    thread = await a_thread(casa, await an_environment(casa))
    assert (await casa.row(thread.id)).sandbox_id is None
    await run(record, thread, "echo kept > note")
    made = await the_row(casa, thread)
    assert (made.status, made.cause) == ("ready", None)
    assert await run(record, thread, "cat note") == "kept\n"
    assert (await the_row(casa, thread)).id == made.id


async def test_the_environments_limits_hold(casa: Casa, record: Record) -> None:
    thread = await a_thread(
        casa, await an_environment(casa, fileBytes=8192, commandSeconds=0.5)
    )
    assert await run(record, thread, "ulimit -f") == "16\n"
    result = await ThreadSandbox(record, thread.id).run_command("sleep 20", Shown())
    assert result.timed_out


async def test_a_dead_sandbox_is_replaced_at_the_next_turn(casa: Casa, record: Record) -> None:
    thread = await a_thread(casa, await an_environment(casa))
    await run(record, thread, "echo lost > note")
    first = await the_row(casa, thread)
    shutil.rmtree(Path(record.settings.workspace_root) / str(first.id))
    assert "No such file" in await run(record, thread, "cat note")
    second = await the_row(casa, thread)
    assert second.id != first.id
    assert (await row(casa, first.id)).status == "dead"


async def test_a_sandbox_that_dies_in_a_turn_is_said_to(casa: Casa, record: Record) -> None:
    thread = await a_thread(casa, await an_environment(casa))
    turn = ThreadSandbox(record, thread.id)
    await turn.run_command("true", Shown())
    made = await the_row(casa, thread)
    shutil.rmtree(Path(record.settings.workspace_root) / str(made.id))
    with pytest.raises(SandboxDied):
        await turn.run_command("true", Shown())
    now = await row(casa, made.id)
    assert now.status == "dead"
    assert "workspace is gone" in (now.cause or "")


async def test_lanes_that_need_it_at_once_share_one(casa: Casa, record: Record) -> None:
    thread = await a_thread(casa, await an_environment(casa))
    turns = [ThreadSandbox(record, thread.id) for _ in range(4)]
    await asyncio.gather(
        *(turn.run_command(f"echo {n} > {n}", Shown()) for n, turn in enumerate(turns))
    )
    assert await run(record, thread, "ls") == "0\n1\n2\n3\n"


async def test_one_that_cannot_be_made_is_dead_and_the_thread_points_nowhere(
    casa: Casa, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = await a_thread(casa, await an_environment(casa))
    monkeypatch.setattr(isolation, "_choose_once", lambda *_: "bwrap is not installed")
    with pytest.raises(Unavailable) as refused:
        await run(record, thread, "true")
    assert "ARBE_ALLOW_UNSANDBOXED" in refused.value.next_step
    assert (await casa.row(thread.id)).sandbox_id is None


async def test_an_idle_sandbox_is_released_and_its_files_go(casa: Casa, record: Record) -> None:
    thread = await a_thread(casa, await an_environment(casa))
    await run(record, thread, "echo lost > note")
    made = await the_row(casa, thread)
    workspace = Path(record.settings.workspace_root) / str(made.id)
    await idle.sweep(record)
    assert (await row(casa, made.id)).status == "ready"
    await age(record, made.id)
    assert (await idle.sweep(record))["released"] >= 1
    now = await row(casa, made.id)
    assert (now.status, now.cause) == ("released", "idle")
    assert await sweep_disk(record) == {"released": 1}
    assert not workspace.exists()
    assert "No such file" in await run(record, thread, "cat note")
    assert (await the_row(casa, thread)).id != made.id


async def test_a_running_threads_sandbox_is_never_idle(casa: Casa, record: Record) -> None:
    thread = await a_thread(casa, await an_environment(casa))
    await run(record, thread, "true")
    made = await the_row(casa, thread)
    await age(record, made.id)
    async with engine.as_worker(record.projector) as connection:
        await connection.execute(
            sa.update(tables.threads)
            .where(tables.threads.c.id == thread.id)
            .values(status="running")
        )
    await idle.sweep(record)
    assert (await row(casa, made.id)).status == "ready"


async def test_a_deleted_threads_sandbox_goes_once_no_command_can_run_in_it(
    casa: Casa, record: Record
) -> None:
    thread = await a_thread(casa, await an_environment(casa))
    await run(record, thread, "true")
    made = await the_row(casa, thread)
    await delete_thread.delete_thread(casa.record, casa.who, thread.id)
    assert await sweep_disk(record) == {}
    await age(record, made.id)
    assert await sweep_disk(record) == {"released": 1}


async def test_what_no_row_tells_of_stays(record: Record) -> None:
    stranger = Path(record.settings.workspace_root) / str(ids.uuid7())
    stranger.mkdir(parents=True)
    assert await sweep_disk(record) == {}
    assert stranger.exists()


# --- outputs ---------------------------------------------------------------------------------


async def read(casa: Casa, thread_id: ThreadId, ref: str) -> bytes:
    return b"".join(
        [part async for part in await outputs.read(casa.record, casa.who, thread_id, ref)]
    )


async def test_a_short_output_is_kept_nowhere_else(casa: Casa, record: Record) -> None:
    thread = await a_thread(casa)
    result = await ThreadSandbox(record, thread.id).run_command("seq 1 10", Shown())
    assert result.kept is None
    assert not result.truncated


async def test_a_long_output_is_whole_elsewhere(casa: Casa, record: Record) -> None:
    thread = await a_thread(casa)
    result = await ThreadSandbox(record, thread.id).run_command("seq 1 300000", Shown())
    assert len(result.output) <= 1000
    assert result.kept is not None
    assert (result.kept.bytes, result.kept.truncated) == (result.total_bytes, False)
    assert result.total_bytes > outputs.PART_BYTES
    whole = await read(casa, thread.id, result.kept.ref)
    assert whole == "".join(f"{n}\n" for n in range(1, 300_001)).encode()


async def test_beyond_its_limit_an_output_is_cut(casa: Casa, record: Record) -> None:
    thread = await a_thread(casa)
    limit = record.settings.max_kept_output_bytes
    result = await ThreadSandbox(record, thread.id).run_command(
        f"yes | head -c {2 * limit}", Shown()
    )
    assert result.kept is not None
    assert (result.kept.bytes, result.kept.truncated) == (limit, True)
    assert len(await read(casa, thread.id, result.kept.ref)) == limit


async def test_nobody_else_reads_it_and_it_goes_with_its_thread(
    casa: Casa, record: Record, settings: Settings
) -> None:
    thread, other = await a_thread(casa), await a_thread(casa)
    result = await ThreadSandbox(record, thread.id).run_command("seq 1 1000", Shown())
    assert result.kept is not None
    with pytest.raises(NotFound):
        await read(casa, other.id, result.kept.ref)
    with pytest.raises(NotFound):
        await read(casa, thread.id, "no-such")
    await delete_thread.delete_thread(casa.record, casa.who, thread.id)
    with pytest.raises(NotFound):
        await read(casa, thread.id, result.kept.ref)


async def test_old_outputs_are_forgotten(
    casa: Casa, record: Record, settings: Settings
) -> None:
    thread = await a_thread(casa)
    result = await ThreadSandbox(record, thread.id).run_command("seq 1 1000", Shown())
    assert result.kept is not None
    assert await read(casa, thread.id, result.kept.ref)
    none_is_kept = record.settings.model_copy(update={"output_seconds": 0})
    async with open_record(none_is_kept) as forgetful:
        assert await outputs.forget(forgetful) >= 1
    with pytest.raises(NotFound):
        await read(casa, thread.id, result.kept.ref)


async def test_a_postgres_that_is_away_stops_no_command(
    casa: Casa, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = await a_thread(casa)

    async def away(*_: object, **__: object) -> bool:
        raise Unavailable("Postgres")

    monkeypatch.setattr(outputs, "append", away)
    result = await ThreadSandbox(record, thread.id).run_command("seq 1 9999", Shown())
    assert result.exit_code == 0
    assert result.kept is None


# --- recipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "config", "word"),
    [
        ("kubernetes", {}, "local, docker"),
        ("local", {"memroyBytes": 1}, "memoryBytes"),
        ("local", {"memoryBytes": 5}, ">= 16777216"),
        ("local", {"network": "yes"}, "bool"),
        ("local", {"image": "x"}, "docker"),
        ("docker", {}, '"image"'),
    ],
)
async def test_a_wrong_recipe_is_refused_when_it_is_made(
    casa: Casa, provider: str, config: dict[str, Any], word: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await environments.create(
            casa.record, casa.who, name="e", provider=provider, config=config
        )
    assert word in str(refused.value)
