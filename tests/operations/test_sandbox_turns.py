"""Turns that run commands: a sandbox that dies takes its run with it; long outputs are kept."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dispatch import payloads
from dispatch.config import Settings
from dispatch.errors import Unavailable
from dispatch.ids import ThreadId, WorkerId
from dispatch.models.threads import NewThread
from dispatch.operations import diagnose, environments, outputs
from dispatch.operations.record import Record, open_record
from dispatch.payloads.llm import ToolResult
from dispatch.stores.postgres import agents, engine, sandboxes, threads
from dispatch.streams.lanes import LaneRef
from tests.sandboxes.commands import processes_with, wait_until
from tests.system.houses import Casa
from workers import turn
from workers.heartbeat import Heartbeats
from workers.sandboxes import isolation


@pytest_asyncio.fixture
async def record(settings: Settings, tmp_path: Path) -> AsyncIterator[Record]:
    here = settings.model_copy(update={"workspace_root": str(tmp_path / "workspaces")})
    try:
        await asyncio.to_thread(isolation.choose, here)
    except Unavailable as problem:
        pytest.skip(str(problem))
    async with open_record(here) as made:
        yield made


@pytest_asyncio.fixture
async def thread_id(casa: Casa) -> ThreadId:
    """A sub-job with an environment and the demo agent awake."""
    environment = await environments.create(casa.record, casa.who, name="e")
    async with engine.as_member(casa.record.members, casa.who.member_id) as connection:
        parent = await threads.insert(connection, new=NewThread(house_id=casa.who.house_id))
        new = NewThread(
            house_id=casa.who.house_id,
            parent_thread_id=parent.id,
            environment_id=environment.id,
        )
        thread = await threads.insert(connection, new=new)
        await agents.set_override(
            connection,
            house_id=casa.who.house_id,
            thread_id=thread.id,
            agent_id=casa.agent.id,
            trigger_mode="always",
        )
    return thread.id


async def take_turn(casa: Casa, record: Record, thread_id: ThreadId, text: str) -> None:
    await casa.post(thread_id, text)
    heartbeats = Heartbeats(
        record.connection, worker_id=WorkerId("test.5.d"), settings=record.settings
    )
    await turn.run_lane(record, heartbeats, LaneRef(thread_id, casa.agent.id))


async def test_a_sandbox_gone_under_a_command_fails_the_turn_and_the_next_has_a_new_one(
    casa: Casa, record: Record, thread_id: ThreadId
) -> None:
    await take_turn(casa, record, thread_id, "run: echo first")
    before = (await casa.row(thread_id)).sandbox_id
    marker = f"51.{os.getpid()}1"
    running = asyncio.ensure_future(
        take_turn(casa, record, thread_id, f"run: sleep {marker} & sleep 1")
    )
    await wait_until(lambda: bool(processes_with(marker)))
    await asyncio.to_thread(shutil.rmtree, Path(record.settings.workspace_root) / str(before))
    await running

    assert (await casa.row(thread_id)).status == "failed"
    failed = (await casa.entries(thread_id))[-1].payload
    assert payloads.type_of(failed) == "signal.dispatch.failed"
    assert getattr(failed, "reason", "") == "sandbox_died"
    told = await diagnose.diagnose(casa.record, casa.who, thread_id)
    assert told.stage == "failed"
    assert "sandbox" in told.cause
    async with engine.as_worker(record.projector) as connection:
        assert before is not None
        assert (await sandboxes.get(connection, sandbox_id=before)).status == "dead"

    await take_turn(casa, record, thread_id, "run: echo again")
    row = await casa.row(thread_id)
    assert row.status == "completed"
    assert row.sandbox_id not in {None, before}


async def test_a_sandbox_killed_from_outside_takes_its_run_and_leaves_its_files(
    casa: Casa, record: Record, thread_id: ThreadId
) -> None:
    marker = f"52.{os.getpid()}2"
    running = asyncio.ensure_future(
        take_turn(casa, record, thread_id, f"run: echo kept > note; sleep {marker}")
    )
    await wait_until(lambda: len(processes_with(marker)) > 1)
    os.kill(min(processes_with(marker)), signal.SIGKILL)
    await running

    row = await casa.row(thread_id)
    assert row.status == "failed"
    await take_turn(casa, record, thread_id, "run: cat note")
    again = await casa.row(thread_id)
    assert (again.status, again.sandbox_id) == ("completed", row.sandbox_id)


async def test_a_long_output_is_shown_by_its_end_and_named_as_a_whole(
    casa: Casa, record: Record, thread_id: ThreadId
) -> None:
    await take_turn(casa, record, thread_id, "run: seq 1 200000")

    (result,) = [
        each.payload
        for each in await casa.entries(thread_id)
        if isinstance(each.payload, ToolResult)
    ]
    text, kept = result.message["content"][0]["text"], result.message["details"]["output"]
    assert text.endswith("199999\n200000\n")
    assert len(text.encode()) <= record.settings.max_tool_text_bytes
    assert (kept["bytes"], kept["truncated"]) == (1_288_895, False)
    parts = await outputs.read(casa.record, casa.who, thread_id, kept["ref"])
    whole = b"".join([part async for part in parts])
    assert whole.startswith(b"1\n2\n")
    assert len(whole) == kept["bytes"]
