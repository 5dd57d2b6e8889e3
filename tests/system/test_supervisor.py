import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from dispatch import errors
from dispatch.embedded import folder_lock, supervisor
from dispatch.embedded.child import Child
from dispatch.embedded.journal import Journal
from dispatch.embedded.supervisor import Supervisor

PATIENCE_SECONDS = 60.0

SLEEPER = "import time; print('hello', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(600)"
)
ROOT = str(Path(__file__).parents[2])


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def is_alive(process_id: int) -> bool:
    """A zombie counts as dead: it only waits to be noticed."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Scene:
    def __init__(self, processes: Supervisor, folder: Path, in_haste: asyncio.Event) -> None:
        self.processes = processes
        self.in_haste = in_haste
        self._log = folder / "arbe.log"

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def said(self, text: str) -> Callable[[], Awaitable[None]]:
        """A readiness check: that line is in the log."""

        async def ready() -> None:
            await wait_until(lambda: any(text in line for line in self.lines))

        return ready

    def living(self, name: str) -> int:
        process_id = self.processes.process_id(name)
        assert process_id is not None
        return process_id


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncGenerator[Scene]:
    in_haste = asyncio.Event()
    journal = Journal(folder / "arbe.log", echo=None)
    with contextlib.closing(journal):
        async with supervisor.running(journal, in_haste=in_haste) as processes:
            yield Scene(processes, folder, in_haste)


async def test_a_killed_child_comes_back_by_itself(tmp_path: Path):
    async with scene(tmp_path) as it:
        await it.processes.start(Child("a", python(SLEEPER), ready=it.said("hello")))
        first = it.living("a")
        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: it.processes.process_id("a") not in {None, first})
        await wait_until(lambda: sum("hello" in line for line in it.lines) == 2)
    assert any("ended by SIGKILL" in line for line in it.lines)


async def test_every_line_stands_under_the_name_of_its_process(tmp_path: Path):
    async with scene(tmp_path) as it:
        await it.processes.start(Child("a", python(SLEEPER), ready=it.said("hello")))
        errs = "import sys, time; print('oh', file=sys.stderr); time.sleep(600)"
        await it.processes.start(Child("b", python(errs), ready=it.said("oh")))
    assert "a        | hello" in it.lines
    assert "b        | oh" in it.lines


async def test_children_stop_in_reverse_order_and_none_is_left(tmp_path: Path):
    async with scene(tmp_path) as it:
        for name in ("a", "b", "c"):
            await it.processes.start(Child(name, python(SLEEPER)))
        living = [it.living(name) for name in ("a", "b", "c")]
    stopped = [line.split()[-2] for line in it.lines if line.endswith(" stopped")]
    assert stopped == ["c", "b", "a"]
    assert not any(is_alive(process_id) for process_id in living)


async def test_a_child_that_does_not_stop_is_killed_after_its_grace(tmp_path: Path):
    async with scene(tmp_path) as it:
        deaf = Child("a", python(STUBBORN), ready=it.said("deaf"), stop_seconds=0.2)
        await it.processes.start(deaf)
        process_id = it.living("a")
    assert not is_alive(process_id)
    assert any("did not stop in time" in line for line in it.lines)


async def test_haste_ends_every_grace(tmp_path: Path):
    async with asyncio.timeout(PATIENCE_SECONDS), scene(tmp_path) as it:
        deaf = Child("a", python(STUBBORN), ready=it.said("deaf"), stop_seconds=600)
        await it.processes.start(deaf)
        it.in_haste.set()


async def test_a_child_that_cannot_start_is_reported_by_name(tmp_path: Path):
    async with scene(tmp_path) as it:
        with pytest.raises(errors.Unavailable, match=r"'a'.*exit code 3"):
            await it.processes.start(
                Child("a", python("raise SystemExit(3)"), ready=it.said("never"))
            )


async def test_what_a_killed_child_left_in_its_group_is_killed_too(tmp_path: Path):
    with_child = (
        "import subprocess, sys, time;"
        "print('child', subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    )
    async with scene(tmp_path) as it:
        await it.processes.start(Child("a", python(with_child), ready=it.said("child")))
        grandchild = int(next(line for line in it.lines if "child" in line).split()[-1])
        os.kill(it.living("a"), signal.SIGKILL)
        await wait_until(lambda: not is_alive(grandchild))


async def test_a_child_gets_its_own_environment_and_no_token_reaches_the_log(tmp_path: Path):
    program = "import os, time; print('got', os.environ['SECRET'], flush=True); time.sleep(600)"
    secret = "arbe_owner_0123456789abcdefghij"
    async with scene(tmp_path) as it:
        child = Child("a", python(program), {"SECRET": secret}, ready=it.said("got"))
        await it.processes.start(child)
    assert "a        | got [secret]" in it.lines
    assert not any(secret in line for line in it.lines)


async def test_a_line_without_end_does_not_stop_the_log(tmp_path: Path):
    program = (
        "import sys, time; sys.stdout.write('x' * 300_000); print();"
        "print('after', flush=True); time.sleep(600)"
    )
    async with scene(tmp_path) as it:
        await it.processes.start(Child("a", python(program), ready=it.said("after")))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a death")
async def test_children_die_with_a_killed_supervisor(tmp_path: Path):
    program = f"""
import asyncio, sys
from pathlib import Path
from dispatch.embedded import supervisor
from dispatch.embedded.child import Child
from dispatch.embedded.journal import Journal

async def main():
    journal = Journal(Path({str(tmp_path)!r}) / "arbe.log", echo=None)
    async with supervisor.running(journal, in_haste=asyncio.Event()) as processes:
        await processes.start(Child("a", [sys.executable, "-c", {STUBBORN!r}]))
        print(processes.process_id("a"), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        *python(program), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    await parent.wait()
    await wait_until(lambda: not is_alive(child))


async def test_one_folder_has_one_up(tmp_path: Path):
    with folder_lock.held(tmp_path):
        second = folder_lock.held(tmp_path)
        with pytest.raises(errors.Conflict, match=f"process {os.getpid()}"), second:
            pass
    with folder_lock.held(tmp_path):
        pass


def test_a_reader_who_leaves_does_not_stop_the_log(tmp_path: Path):
    terminal = io.StringIO()
    journal = Journal(tmp_path / "arbe.log", echo=terminal)
    journal.write("a", "one")
    terminal.close()
    journal.write("a", "two")
    journal.close()
    assert (tmp_path / "arbe.log").read_text() == "a        | one\na        | two\n"
