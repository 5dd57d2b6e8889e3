"""A thread deleted while its turn runs: its command ends and its workspace goes."""

import asyncio
from pathlib import Path

import psutil

from dispatch.operations import delete_thread
from tests.system import brokers
from tests.system.houses import Casa
from tests.system.processes import Processes, wait_until

SECONDS = "86371"
"""Nobody else on this machine sleeps for as long."""


def sleepers() -> list[int]:
    """Return the processes of our command."""
    found = psutil.process_iter(["cmdline"])
    return [each.pid for each in found if each.info["cmdline"] == ["sleep", SECONDS]]


@brokers.on_both
async def test_deleting_a_thread_ends_its_command_and_removes_its_workspace(
    casa: Casa, processes: Processes
) -> None:
    processes.start_worker()
    root = Path(processes.environment()["ARBE_WORKSPACE_ROOT"])
    thread_id, other_id = await casa.dm(), await casa.dm()
    for each in (thread_id, other_id):
        await casa.post(each, "run: echo kept > file")
        await casa.wait(each, lambda types: "signal.dispatch.completed" in types)
    await casa.post(thread_id, f"run: sleep {SECONDS}")
    await asyncio.to_thread(wait_until, lambda: len(sleepers()) == 1)
    assert (root / str(thread_id) / "file").read_text() == "kept\n"
    await delete_thread.delete_thread(casa.record, casa.who, thread_id)
    await asyncio.to_thread(wait_until, lambda: not sleepers())
    await asyncio.to_thread(wait_until, lambda: not (root / str(thread_id)).exists())
    assert (root / str(other_id) / "file").exists()
    await delete_thread.delete_thread(casa.record, casa.who, other_id)
    processes.start_worker()
    await asyncio.to_thread(wait_until, lambda: not (root / str(other_id)).exists())
