"""What an engine is told, and what becomes of its answers; the behaviour needs a real one."""

import asyncio
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch import ids
from dispatch.config import Settings
from dispatch.errors import Invalid, SandboxDied, Unavailable
from dispatch.models.recipes import Recipe
from tests.sandboxes import fake_engine
from tests.sandboxes.commands import Shown, run
from tests.sandboxes.conftest import a_place
from tests.sandboxes.fake_engine import FakeEngine
from workers.sandboxes import Place, containers, engine, providers
from workers.sandboxes.containers import DockerProvider

# The SDK leaves the connections of commands, and of failed beginnings, to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
IMAGE = "python:3.12-slim"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(docker_url=f"unix://{tmp_path}/engine", sandbox_memory_bytes=512 * 1024**2)


@pytest.fixture
def fake(settings: Settings, tmp_path: Path) -> Iterator[FakeEngine]:
    with fake_engine.serving(tmp_path / "engine") as served:
        yield served


@pytest.fixture
def provider(settings: Settings) -> DockerProvider:
    return DockerProvider(settings)


@pytest.fixture
def place(settings: Settings) -> Place:
    return a_place(settings, Recipe(image=IMAGE, processes=64))


async def test_a_container_is_small_powerless_and_without_network(
    fake: FakeEngine, provider: DockerProvider, place: Place
) -> None:
    await provider.open(place)

    (told,) = fake.bodies(r"^/containers/create")
    host = told["HostConfig"]
    assert told["Image"] == IMAGE
    assert told["Labels"] == {"arbe.sandbox": str(place.id)}
    assert (host["NetworkMode"], host["CapDrop"]) == ("none", ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Memory"] == host["MemorySwap"] == 512 * 1024**2
    assert (host["PidsLimit"], host["NanoCpus"]) == (64, 2_000_000_000)
    assert not host.get("Binds")
    assert not host.get("PidMode")
    assert {each["Name"]: each["Hard"] for each in host["Ulimits"]} == {
        "fsize": 1024**3,
        "core": 0,
    }


async def test_the_network_is_the_engines_bridge_where_it_is_allowed(
    fake: FakeEngine, provider: DockerProvider, settings: Settings
) -> None:
    await provider.open(a_place(settings, Recipe(image=IMAGE, network=True)))

    assert fake.bodies(r"^/containers/create")[0]["HostConfig"]["NetworkMode"] == "bridge"


async def test_a_command_runs_as_nobody_and_all_it_left_is_ended(
    fake: FakeEngine, provider: DockerProvider, place: Place
) -> None:
    shown = Shown()
    fake.prints = [b"one\n", b"two\n"]
    fake.exit_code = 137

    result = await run(await provider.open(place), "make all", shown=shown)

    assert (result.exit_code, result.signal, result.output) == (137, "SIGKILL", "one\ntwo\n")
    assert shown.pieces == ["one\n", "two\n"]
    command, end = fake.bodies(r"/exec$")[-2:]
    assert command["Cmd"][-2:] == ["make all", "25"]
    assert (command["User"], command["WorkingDir"]) == ("1000:1000", "/workspace")
    assert end["Cmd"][-1] == containers._END_ALL
    assert end["User"] == "1000:1000"


async def test_beside_another_command_only_its_own_processes_are_ended(
    fake: FakeEngine, provider: DockerProvider, place: Place
) -> None:
    sandbox = await provider.open(place)
    fake.execs["other"] = {"Running": True}
    fake.containers[engine.name_of(place.id)]["ExecIDs"] = ["other"]

    await run(sandbox, "true")

    command, end = fake.bodies(r"/exec$")[-2:]
    mark = next(each for each in command["Env"] if each.startswith("ARBE_COMMAND="))
    assert end["Cmd"][-1] == mark
    assert "kill -9 -1" not in str(end["Cmd"])


async def test_the_wall_clock_ends_a_command(
    fake: FakeEngine, provider: DockerProvider, place: Place
) -> None:
    fake.hang = True

    result = await run(await provider.open(place), "sleep 99", wall_seconds=0.3)

    assert (result.timed_out, result.exit_code, result.output) == (True, None, "hello\n")
    assert fake.hangs.is_set()


async def test_a_cancellation_ends_a_command(
    fake: FakeEngine, provider: DockerProvider, place: Place
) -> None:
    fake.hang = True
    shown = Shown()
    running = asyncio.ensure_future(run(await provider.open(place), "sleep 99", shown=shown))
    while not shown.pieces:  # noqa: ASYNC110
        await asyncio.sleep(0.01)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert fake.hangs.is_set()


async def test_a_container_that_goes_under_a_command_is_a_death(
    fake: FakeEngine, provider: DockerProvider, place: Place
) -> None:
    sandbox = await provider.open(place)
    fake.on_command = fake.containers.clear

    with pytest.raises(SandboxDied):
        await run(sandbox, "make all")
    with pytest.raises(SandboxDied):
        await run(sandbox, "make all")


async def test_a_stopped_container_is_not_found_again(
    fake: FakeEngine, provider: DockerProvider, place: Place
) -> None:
    await provider.open(place)
    assert await provider.find(place) is not None
    fake.containers[engine.name_of(place.id)]["State"] = {"Status": "exited"}

    assert await provider.find(place) is None
    assert await provider.list() == [place.id]
    assert await provider.release(place.id)
    assert await provider.release(place.id)
    assert await provider.list() == []


async def test_a_container_half_made_is_taken_up(
    fake: FakeEngine, provider: DockerProvider, place: Place
) -> None:
    await provider.open(place)
    fake.containers[engine.name_of(place.id)]["State"] = {"Status": "created"}

    await provider.open(place)

    assert len(fake.bodies(r"^/containers/create")) == 1
    assert await provider.find(place) is not None


async def test_an_image_that_cannot_be_had_is_the_environments_fault(
    fake: FakeEngine, provider: DockerProvider, settings: Settings
) -> None:
    with pytest.raises(Invalid) as refused:
        await provider.open(a_place(settings, Recipe(image="no-such")))

    assert "no-such" in str(refused.value)


async def test_no_engine_is_unavailable_and_says_where_it_was_looked_for(
    provider: DockerProvider, place: Place, settings: Settings
) -> None:
    with pytest.raises(Unavailable) as away:
        await provider.open(place)

    assert settings.docker_url in away.value.next_step
    assert "ARBE_DOCKER_URL" in away.value.next_step
    assert not engine.is_present(settings.docker_url)
    assert len(providers.present(settings)) == 1


async def test_without_the_sdk_it_says_what_to_install(
    provider: DockerProvider, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)

    with pytest.raises(Unavailable, match=r"arbe-dispatch\[docker\]"):
        await provider.release(ids.uuid7())
