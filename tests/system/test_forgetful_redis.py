"""A real Redis that is killed, loses its end, or forgets all: nothing diverges in silence."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dispatch.embedded import launch
from dispatch.embedded.redis import Redis
from dispatch.errors import Fenced
from dispatch.operations import delete_thread, project, prune, reconcile
from dispatch.payloads.signals import Completed, Failed, StreamRollback
from tests.operations.test_writer import assistant, claim, running
from tests.system.conftest import new_system
from tests.system.houses import Casa, found_casa
from workers.sweeps import prune as prune_sweep
from workers.sweeps import redeliver


class Server:
    """A Redis of our own that can be killed and set back to what its disk held before."""

    def __init__(self, folder: Path) -> None:
        self.redis = Redis(folder)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        await self.redis.prepare()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a server, not a wait
                launch.command(self.redis.command()), stdout=log, stderr=log
            )
        await self.redis.wait_ready()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def remember(self) -> None:
        """Keep a copy of the append-only file: what was answered is written to it."""
        shutil.rmtree(self._folder / "kept", ignore_errors=True)
        (self._folder / "kept").mkdir()
        for file in self._files():
            copy = shutil.copytree if file.is_dir() else shutil.copy
            copy(file, self._folder / "kept" / file.name)

    async def come_back_shorter(self) -> None:
        """As after a power loss: what was written since `remember` is not there."""
        self.kill()
        for file in self._files():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        for file in (self._folder / "kept").iterdir():
            copy = shutil.copytree if file.is_dir() else shutil.copy
            copy(file, self._folder / file.name)
        await self.start()

    def _files(self) -> list[Path]:
        return [*self._folder.glob("appendonly*")]


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    (tmp_path / "redis").mkdir()
    made = Server(tmp_path / "redis")
    await made.start()
    yield made
    made.kill()


@pytest_asyncio.fixture
async def casa(server: Server, postgres_url: str) -> AsyncIterator[Casa]:
    settings = new_system(postgres_url, server.redis.url, name="arbe_forgetful", first_db=0)
    async with found_casa(settings) as made:
        yield made


async def test_a_killed_redis_has_forgotten_nothing_and_the_run_goes_on(
    casa: Casa, server: Server
) -> None:
    thread_id, writer = await running(casa)
    await writer.emit(assistant("before"))
    server.kill()
    await server.start()
    await writer.emit(assistant("after"))
    await writer.finish(
        Completed(dispatch_id=writer.fence.dispatch_id, run_id=writer.fence.run_id)
    )
    types = await casa.types(thread_id)
    assert types.count("pi.assistant") == 2
    assert not [each for each in types if "rollback" in each]


async def test_a_redis_that_lost_its_end_says_so_and_repeats_nothing(
    casa: Casa, server: Server
) -> None:
    thread_id = await casa.dm()
    await casa.post(thread_id, "hello")
    server.remember()
    writer = await claim(casa, thread_id)
    await project.project(casa.record, thread_id)
    await writer.emit(assistant("seen by followers"))
    witness = (await casa.row(thread_id)).stream_id
    last = (await casa.entries(thread_id))[-1].id

    await server.come_back_shorter()

    await redeliver.sweep(casa.record)
    with pytest.raises(Fenced):
        await writer.emit(assistant("a zombie's"))
    accepted = await casa.post(thread_id, "are you there?")
    said = [entry.payload for entry in await casa.entries(thread_id)]
    rollback = next(each for each in said if isinstance(each, StreamRollback))
    assert rollback.witness == witness
    failed = [each for each in said if isinstance(each, Failed)]
    assert [each.reason for each in failed] == ["stream_rollback"]
    assert accepted.entry_id > last
    again = await claim(casa, thread_id)
    assert again.fence.dispatch_id == accepted.dispatches[0][0]


async def test_a_terminal_that_was_lost_is_not_run_again(casa: Casa, server: Server) -> None:
    thread_id, writer = await running(casa)
    await project.project(casa.record, thread_id)
    server.remember()
    await writer.finish(
        Completed(dispatch_id=writer.fence.dispatch_id, run_id=writer.fence.run_id)
    )
    await project.project(casa.record, thread_id)
    assert (await casa.row(thread_id)).status == "open"

    await server.come_back_shorter()

    done = await reconcile.reconcile(casa.record, thread_id)
    assert (done.before, done.after) == ("open", "failed")
    types = await casa.types(thread_id)
    assert types.count("signal.dispatch.started") == 1
    assert types[-3:] == [
        "signal.thread.stream_rollback",
        "signal.dispatch.failed",
        "signal.thread.pi_session_orphaned",
    ]


async def test_a_run_whose_own_words_were_lost_tells_it(casa: Casa, server: Server) -> None:
    """The row had seen all: only the run knows what it was told to stand."""
    thread_id, writer = await running(casa)
    await project.project(casa.record, thread_id)
    server.remember()
    await writer.emit(assistant("seen by followers"))
    await server.come_back_shorter()
    with pytest.raises(Fenced):
        await writer.emit(assistant("more"))
    types = await casa.types(thread_id)
    assert types[-3] == "signal.thread.stream_rollback"
    await redeliver.sweep(casa.record)
    assert (await casa.types(thread_id)).count("signal.dispatch.started") == 1


async def test_a_deleted_thread_that_came_back_is_deleted_again(
    casa: Casa, server: Server
) -> None:
    thread_id, writer = await running(casa)
    server.remember()
    await delete_thread.delete_thread(casa.record, casa.who, thread_id)
    await server.come_back_shorter()
    assert await casa.entries(thread_id)
    with pytest.raises(Fenced):
        await writer.emit(assistant("a zombie's"))
    assert not await casa.entries(thread_id)
    keys = await casa.record.connection.call("KEYS", f"*{thread_id}*")
    assert keys == [f"{{arbe-thread-{thread_id}}}:state".encode()]


async def test_a_flushed_redis_is_told_by_sweep_reader_and_poster(
    casa: Casa, server: Server
) -> None:
    by_sweep, by_reader, by_poster = [(await running(casa))[0] for _ in range(3)]
    for thread_id in (by_sweep, by_reader, by_poster):
        await project.project(casa.record, thread_id)
    await casa.record.connection.call("FLUSHALL")
    posted = await casa.post(by_poster, "still there?")
    await reconcile.reconcile(casa.record, by_reader)
    assert (await prune.prune(casa.record, dry_run=True))["orphans"] == 1
    await prune_sweep.sweep(casa.record)
    for thread_id in (by_sweep, by_reader):
        assert (await casa.row(thread_id)).status == "failed"
        assert await casa.types(thread_id) == ["signal.thread.stream_rollback"]
    assert (await casa.types(by_poster))[0] == "signal.thread.stream_rollback"
    assert (await claim(casa, by_poster)).fence.dispatch_id == posted.dispatches[0][0]
